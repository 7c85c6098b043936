//! One line of the key file: `options kind base64 comment`. The options are a closed list; a line with anything else
//! authorises nobody. Written back in the same form.

use crate::{
    enrolled::{EnrolledKey, LineError},
    grant::{AppPattern, Grant},
    public_key::{PublicKey, PublicKeyError},
};
use allod_proto::{Role, Timestamp};
use jiff::{
    civil::{Date, DateTime},
    tz::TimeZone,
};
use std::{fmt::Write as _, str::FromStr};

const LINE_LIMIT: usize = 32 * 1024;
const NAME_LIMIT: usize = 128;
const LIST_LIMIT: usize = 1000;

/// The options as written, each at most once.
#[derive(Default)]
struct Options {
    role: Option<String>,
    apps: Option<String>,
    commands: Option<String>,
    from: Option<String>,
    expiry_time: Option<String>,
    cert_authority: bool,
    principals: Option<String>,
}

pub(crate) fn parse(text: &str) -> Result<EnrolledKey, LineError> {
    if text.len() > LINE_LIMIT {
        return Err(LineError::Form("it is too long"));
    }
    let (options, rest) = split_options(text.trim())?;
    let (kind, encoded, comment) = split_key(rest)?;
    let public = PublicKey::from_words(kind, encoded)?;
    let role = options.role.as_deref().ok_or(LineError::NoRole)?;
    let grant = Grant {
        role: role.parse::<Role>().map_err(|_| LineError::value("role", role))?,
        apps: options.apps.as_deref().map(|value| list("apps", value, AppPattern::from_str)).transpose()?,
        commands: options
            .commands
            .as_deref()
            .map(|value| list("commands", value, command_name))
            .transpose()?,
        from: options.from.as_deref().map(|value| list("from", value, str::parse)).transpose()?,
        expires: options.expiry_time.as_deref().map(parse_expiry).transpose()?,
    };
    let principals = options.principals.as_deref();
    let authority = match (options.cert_authority, principals) {
        (true, Some(value)) => Some(list("principals", value, principal)?),
        (true, None) => return Err(LineError::NoPrincipals),
        (false, Some(_)) => return Err(LineError::PrincipalsAlone),
        (false, None) => None,
    };
    EnrolledKey::assemble(public, comment, grant, authority)
}

/// The key's own three words.
fn split_key(text: &str) -> Result<(&str, &str, &str), LineError> {
    let (kind, rest) = text.split_once([' ', '\t']).ok_or(LineError::Form("it has no key"))?;
    let rest = rest.trim_start();
    let (encoded, comment) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    if encoded.is_empty() {
        Err(LineError::Form("it has no key"))
    } else {
        Ok((kind, encoded, comment.trim()))
    }
}

/// Whether the line has no options: its first word is a key's kind, which no option of ours looks like.
fn begins_with_key(text: &str) -> bool {
    let word = text.split([' ', '\t']).next().unwrap_or_default();
    !word.contains(['=', ',', '"'])
        && ["ssh-", "ecdsa-", "sk-", "rsa-"].iter().any(|kind| word.starts_with(kind))
}

fn split_options(text: &str) -> Result<(Options, &str), LineError> {
    let mut options = Options::default();
    if begins_with_key(text) {
        return Ok((options, text));
    }
    let mut rest = text;
    loop {
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (name, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let (value, after) = match after.strip_prefix('=') {
            Some(after) => read_value(name, after).map(|(value, after)| (Some(value), after))?,
            None => (None, after),
        };
        options.set(name, value)?;
        if let Some(next) = after.strip_prefix(',') {
            rest = next;
        } else if after.is_empty() || after.starts_with([' ', '\t']) {
            return Ok((options, after.trim_start()));
        } else {
            return Err(LineError::Form("something follows a closing quote"));
        }
    }
}

/// A value in quotes, in which only `\"` is an escape as in OpenSSH, or one without, up to a comma or blank.
fn read_value<'a>(name: &str, text: &'a str) -> Result<(String, &'a str), LineError> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        let (value, after) = text.split_at_checked(end).unwrap_or((text, ""));
        return if value.contains('"') {
            Err(LineError::value(name, value))
        } else {
            Ok((value.to_owned(), after))
        };
    };
    let mut value = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"').ok_or(LineError::Form("a quote is not closed"))?;
        let (part, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let after = after.get(1..).unwrap_or_default();
        match part.strip_suffix('\\') {
            Some(part) => {
                value.push_str(part);
                value.push('"');
            }
            None => {
                value.push_str(part);
                return Ok((value, after));
            }
        }
        rest = after;
    }
}

impl Options {
    fn set(&mut self, name: &str, value: Option<String>) -> Result<(), LineError> {
        let slot = match name {
            "cert-authority" => {
                return match value {
                    Some(value) => Err(LineError::value(name, &value)),
                    None if self.cert_authority => Err(LineError::Twice(name.to_owned())),
                    None => {
                        self.cert_authority = true;
                        Ok(())
                    }
                };
            }
            "role" => &mut self.role,
            "apps" => &mut self.apps,
            "commands" => &mut self.commands,
            "from" => &mut self.from,
            "expiry-time" => &mut self.expiry_time,
            "principals" => &mut self.principals,
            other => return Err(LineError::Option(other.chars().take(60).collect())),
        };
        let value = value.ok_or_else(|| LineError::value(name, ""))?;
        if slot.replace(value).is_some() { Err(LineError::Twice(name.to_owned())) } else { Ok(()) }
    }
}

fn list<T, E>(name: &str, value: &str, parse: impl Fn(&str) -> Result<T, E>) -> Result<Vec<T>, LineError>
where
    LineError: From<E>,
{
    let items = value.split(',').map(str::trim);
    if value.is_empty() || items.clone().count() > LIST_LIMIT {
        return Err(LineError::value(name, value));
    }
    items.map(|item| parse(item).map_err(LineError::from)).collect()
}

/// A named command, or a command of the protocol such as `app.deploy`.
fn command_name(text: &str) -> Result<String, LineError> {
    let holds = text.len() <= 64
        && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
    if holds { Ok(text.to_owned()) } else { Err(LineError::value("commands", text)) }
}

fn principal(text: &str) -> Result<String, LineError> {
    let holds = !text.is_empty()
        && text.len() <= NAME_LIMIT
        && text.chars().all(|c| c.is_ascii_graphic() && c != '"');
    if holds { Ok(text.to_owned()) } else { Err(LineError::value("principals", text)) }
}

/// `YYYYMMDD[HHMM[SS]][Z]`, always in UTC. (OpenSSH takes one without `Z` as local time; a server's local time is
/// nothing to rest an expiry on.)
fn parse_expiry(text: &str) -> Result<Timestamp, LineError> {
    let error = || LineError::value("expiry-time", text);
    let digits = text.strip_suffix('Z').unwrap_or(text);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(error());
    }
    let padded = match digits.len() {
        8 => format!("{digits}000000"),
        12 => format!("{digits}00"),
        14 => digits.to_owned(),
        _ => return Err(error()),
    };
    let part = |from: usize, to: usize| padded.get(from..to).and_then(|part| part.parse::<i8>().ok());
    let year = padded.get(..4).and_then(|part| part.parse::<i16>().ok()).ok_or_else(error)?;
    let [month, day, hour, minute, second] =
        [part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14)].map(|part| part.unwrap_or(-1));
    let date = Date::new(year, month, day).map_err(|_| error())?;
    let time = jiff::civil::Time::new(hour, minute, second, 0).map_err(|_| error())?;
    let at = DateTime::from_parts(date, time).to_zoned(TimeZone::UTC).map_err(|_| error())?;
    u64::try_from(at.timestamp().as_millisecond()).map(Timestamp).map_err(|_| error())
}

/// The form that [`parse_expiry`] reads; rounded down to a second, so that nothing lives longer for being rewritten.
fn expiry_text(at: Timestamp) -> String {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_second(seconds)
        .unwrap_or(jiff::Timestamp::MAX)
        .to_zoned(TimeZone::UTC)
        .datetime();
    let (date, time) = (at.date(), at.time());
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}Z",
        date.year(),
        date.month(),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// Renders an entry as a line that [`parse`] reads as the same entry.
pub(crate) fn render(key: &EnrolledKey) -> String {
    let grant = key.grant();
    let mut line = format!("role={}", grant.role);
    let mut quoted = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = write!(line, ",{name}=\"{value}\"");
    };
    if let Some(apps) = &grant.apps {
        quoted("apps", joined(apps));
    }
    if let Some(commands) = &grant.commands {
        quoted("commands", commands.join(","));
    }
    if let Some(ranges) = &grant.from {
        quoted("from", joined(ranges));
    }
    if let Some(expires) = grant.expires {
        quoted("expiry-time", expiry_text(expires));
    }
    if let Some(principals) = key.authority() {
        quoted("principals", principals.join(","));
        line.push_str(",cert-authority");
    }
    format!("{line} {} {}", key.public().to_openssh(), key.comment()).trim_end().to_owned()
}

/// `restrict` first: what sshd could give besides is off, whatever it learns to give.
pub(crate) fn render_for_sshd(key: &EnrolledKey, command: &str) -> Result<String, LineError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b" /._:@+-".contains(&byte);
    if key.authority().is_some() {
        return Err(LineError::Form("a CA's key does not log in itself"));
    }
    if command.is_empty() || !command.bytes().all(plain) {
        return Err(LineError::value("command", command));
    }
    let mut line = format!("restrict,command=\"{command}\"");
    if let Some(ranges) = &key.grant().from {
        // Writing to a String cannot fail.
        let _ = write!(line, ",from=\"{}\"", joined(ranges));
    }
    if let Some(expires) = key.grant().expires {
        let _ = write!(line, ",expiry-time=\"{}\"", expiry_text(expires));
    }
    Ok(format!("{line} {} {}", key.public().to_openssh(), key.comment()).trim_end().to_owned())
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

/// A name that can stand in a file, a record and a terminal: bounded, no control or direction-changing characters.
pub(crate) fn is_plain(text: &str) -> bool {
    text.len() <= NAME_LIMIT
        && !text.chars().any(|c| {
            c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        })
}

impl From<PublicKeyError> for LineError {
    fn from(error: PublicKeyError) -> Self {
        Self::Key(error)
    }
}
