//! JSON as Go's encoding/json reads it, into typed values: keys of structs match whatever their case, unknown ones are
//! ignored, `null` is the zero value. Errors name the field. What lists and maps take in memory is counted while they are read.

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        DeserializeSeed, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{MapDeserializer, SeqDeserializer, StrDeserializer},
    },
    forward_to_deserialize_any,
};
use std::{cell::Cell, fmt, marker::PhantomData};

use crate::limits;

/// Why a JSON text was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It has more bytes than it may.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// It has more of something than it may.
    #[error("more {0} than one message may have")]
    TooMany(&'static str),
    /// It says something that this type can't hold. The text names the fields on the way, and is at most 300 characters.
    #[error("{0}")]
    Unreadable(String),
}

const ERROR_SHOWN: usize = 300;

/// Reads one value, of a text of at most `most` bytes. Besides the text, lists and maps take at most
/// [`limits::MESSAGE_MEMORY`] (and what a growing list holds in reserve).
pub fn read<'de, T: Deserialize<'de>>(text: &'de [u8], most: usize) -> Result<T, JsonError> {
    if text.len() > most {
        return Err(JsonError::TooLong(most));
    }
    let memory = Cell::new(limits::MESSAGE_MEMORY);
    let mut source = serde_json::Deserializer::from_slice(text);
    let value = T::deserialize(Lenient { source: &mut source, memory: &memory });
    value.and_then(|value| source.end().map(|()| value)).map_err(unreadable)
}

/// Writes one value.
pub fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, JsonError> {
    serde_json::to_vec(value).map_err(unreadable)
}

#[expect(clippy::needless_pass_by_value, reason = "it is the argument of map_err")]
fn unreadable(error: serde_json::Error) -> JsonError {
    JsonError::Unreadable(shown(&error))
}

/// What may be shown of an error, which may quote what it was given at any length.
fn shown(error: &impl fmt::Display) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    error.to_string().chars().take(ERROR_SHOWN).map(printable).collect()
}

/// A deserializer that reads as Go does; `memory` is what is left for the entries of lists and maps.
struct Lenient<'m, D> {
    source: D,
    memory: &'m Cell<usize>,
}

/// Asks the source for a value that may be null.
macro_rules! zero_for_null {
    ($($method:ident => $zero:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            struct OrZero<'m, V>(Lenient<'m, V>);
            impl<'de, V: Visitor<'de>> Visitor<'de> for OrZero<'_, V> {
                type Value = V::Value;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.0.source.expecting(f)
                }
                fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
                    let zero: fn(V) -> Result<V::Value, E> = $zero;
                    zero(self.0.source)
                }
                fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
                    self.visit_none()
                }
                fn visit_some<D: Deserializer<'de>>(self, source: D) -> Result<V::Value, D::Error> {
                    source.$method(Inside { visitor: self.0.source, memory: self.0.memory })
                }
            }
            self.source.deserialize_option(OrZero(Lenient { source: visitor, memory: self.memory }))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Lenient<'_, D> {
    type Error = D::Error;

    zero_for_null! {
        deserialize_bool => |v| v.visit_bool(false);
        deserialize_i8 => |v| v.visit_i64(0);
        deserialize_i16 => |v| v.visit_i64(0);
        deserialize_i32 => |v| v.visit_i64(0);
        deserialize_i64 => |v| v.visit_i64(0);
        deserialize_u8 => |v| v.visit_u64(0);
        deserialize_u16 => |v| v.visit_u64(0);
        deserialize_u32 => |v| v.visit_u64(0);
        deserialize_u64 => |v| v.visit_u64(0);
        deserialize_f32 => |v| v.visit_f64(0.0);
        deserialize_f64 => |v| v.visit_f64(0.0);
        deserialize_str => |v| v.visit_str("");
        deserialize_string => |v| v.visit_str("");
        deserialize_seq => |v| v.visit_seq(SeqDeserializer::<_, E>::new(std::iter::empty::<bool>()));
        deserialize_map => |v| v.visit_map(MapDeserializer::<_, E>::new(std::iter::empty::<(bool, bool)>()));
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.source.deserialize_any(Inside { visitor, memory: self.memory })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.source.deserialize_ignored_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.source.deserialize_option(Inside { visitor, memory: self.memory })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        // Go reads an object and nothing else; serde would take a list for the fields in their order.
        self.deserialize_map(StructVisitor { visitor, fields })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.source.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier }
}

/// A visitor whose lists, maps and inner values are read leniently too.
struct Inside<'m, V> {
    visitor: V,
    memory: &'m Cell<usize>,
}

macro_rules! pass_on {
    ($($method:ident: $type:ty;)*) => {$(
        fn $method<E: serde::de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.visitor.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Inside<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    pass_on! {
        visit_bool: bool; visit_i64: i64; visit_u64: u64; visit_f64: f64;
        visit_str: &str; visit_borrowed_str: &'de str; visit_string: String;
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, source: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Lenient { source, memory: self.memory })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, source: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_seq(Lenient { source, memory: self.memory })
    }

    fn visit_map<A: MapAccess<'de>>(self, source: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Lenient { source, memory: self.memory })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, source: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(source)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Inside<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<S::Value, D::Error> {
        self.visitor.deserialize(Lenient { source, memory: self.memory })
    }
}

impl<A> Lenient<'_, A> {
    /// Takes what one more entry needs from what is left.
    fn spend<E: serde::de::Error>(&self, bytes: usize) -> Result<(), E> {
        let left = self.memory.get().checked_sub(bytes);
        self.memory.set(left.ok_or_else(|| E::custom("more entries than one message may have"))?);
        Ok(())
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Lenient<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.spend(size_of::<S::Value>())?;
        self.source.next_element_seed(Inside { visitor: seed, memory: self.memory })
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Lenient<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.spend(size_of::<S::Value>())?;
        self.source.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.spend(size_of::<S::Value>())?;
        self.source.next_value_seed(Inside { visitor: seed, memory: self.memory })
    }
}

/// Visits a struct: its fields by name, whatever their case.
struct StructVisitor<V> {
    visitor: V,
    fields: &'static [&'static str],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for StructVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, source: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(StructAccess {
            source,
            fields: self.fields,
            field: None,
            lifetime: PhantomData,
        })
    }
}

struct StructAccess<'de, A> {
    source: A,
    fields: &'static [&'static str],
    field: Option<&'static str>,
    lifetime: PhantomData<&'de ()>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for StructAccess<'de, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let Some(field) = self.source.next_key_seed(FieldName(self.fields))? else { return Ok(None) };
        self.field = field;
        // No field has an empty name, so this one is ignored.
        let name: StrDeserializer<'_, A::Error> = field.unwrap_or_default().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let value = self.source.next_value_seed(seed);
        match self.field {
            Some(field) => value.map_err(|error| A::Error::custom(format!("{field}: {}", shown(&error)))),
            None => value,
        }
    }
}

/// Finds which field a key means.
struct FieldName(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        source.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().copied().find(|field| field.eq_ignore_ascii_case(key)))
    }
}

#[cfg(test)]
mod tests;
