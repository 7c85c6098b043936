//! The `.env` form: `NAME=value`, with quotes where needed. Single quotes keep everything as it is; double quotes know
//! `\n`, `\r`, `\t`, `\"`, `\\`, `\$` and `` \` ``; both may span lines. Nothing is ever expanded.

use super::send::Value;
use allod_proto::SecretName;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// The values in the order of the file, or every complaint with its line. No complaint shows a value.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<(SecretName, Value)>, Vec<String>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = Reader { bytes, at: 0, line: 1 };
    let (mut values, mut complaints) = (Vec::new(), Vec::new());
    let mut lines: BTreeMap<SecretName, usize> = BTreeMap::new();
    while let Some(line) = reader.next_entry() {
        match reader.entry() {
            Ok((name, value)) => match lines.get(&name) {
                Some(first) => {
                    complaints.push(format!("line {line}: {name} is there twice, first in line {first}"))
                }
                None => {
                    lines.insert(name.clone(), line);
                    values.push((name, value));
                }
            },
            Err(why) => {
                complaints.push(format!("line {line}: {why}"));
                reader.skip_line();
            }
        }
    }
    if complaints.is_empty() { Ok(values) } else { Err(complaints) }
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    line: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        self.line += usize::from(byte == b'\n');
        Some(byte)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r')) {
            self.take();
        }
    }

    fn skip_line(&mut self) {
        while self.peek().is_some_and(|byte| byte != b'\n') {
            self.take();
        }
    }

    /// Goes to the next line that says something, and tells its number.
    fn next_entry(&mut self) -> Option<usize> {
        loop {
            self.skip_blanks();
            match self.peek()? {
                b'\n' => drop(self.take()),
                b'#' => self.skip_line(),
                _ => return Some(self.line),
            }
        }
    }

    fn entry(&mut self) -> Result<(SecretName, Value), String> {
        let name = self.name()?;
        self.skip_blanks();
        let value = match self.peek() {
            Some(b'\'') => self.single()?,
            Some(b'"') => self.double()?,
            _ => return Ok((name, self.bare())),
        };
        self.skip_blanks();
        match self.peek() {
            None | Some(b'\n') => Ok((name, value)),
            Some(b'#') => {
                self.skip_line();
                Ok((name, value))
            }
            Some(_) => Err(format!("there is more after the closing quote of {name}")),
        }
    }

    fn name(&mut self) -> Result<SecretName, String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        let line = rest.get(..end).unwrap_or_default();
        // What has no = may be a value that lost its name.
        let equals = line.iter().position(|&byte| byte == b'=').ok_or("write NAME=value")?;
        let text = std::str::from_utf8(line.get(..equals).unwrap_or_default())
            .map_err(|_| "the name is not UTF-8")?;
        let text = text.trim();
        let text = text.strip_prefix("export ").unwrap_or(text).trim_start();
        let name = SecretName::new(text).map_err(|error| error.to_string())?;
        self.at += equals + 1;
        Ok(name)
    }

    /// Up to the end of the line, or to a `#` after a blank.
    fn bare(&mut self) -> Value {
        let mut value = Zeroizing::new(Vec::with_capacity(self.rest_of_line()));
        while let Some(byte) = self.peek().filter(|byte| *byte != b'\n') {
            if byte == b'#' && value.last().is_none_or(|last| matches!(last, b' ' | b'\t')) {
                self.skip_line();
                break;
            }
            value.push(byte);
            self.take();
        }
        while value.last().is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
            value.pop();
        }
        value
    }

    fn rest_of_line(&self) -> usize {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len())
    }

    fn single(&mut self) -> Result<Value, String> {
        let rest = self.bytes.get(self.at + 1..).unwrap_or_default();
        let end = rest.iter().position(|&byte| byte == b'\'').ok_or("the single quote is never closed")?;
        let value = Zeroizing::new(rest.get(..end).unwrap_or_default().to_vec());
        for _ in 0..end + 2 {
            self.take();
        }
        Ok(value)
    }

    fn double(&mut self) -> Result<Value, String> {
        let begin = (self.at, self.line);
        self.take();
        let room = self.bytes.len().saturating_sub(self.at);
        let mut value = Zeroizing::new(Vec::with_capacity(room));
        loop {
            match self.take() {
                Some(b'"') => return Ok(value),
                Some(b'\\') => value.push(match self.take() {
                    Some(b'n') => b'\n',
                    Some(b'r') => b'\r',
                    Some(b't') => b'\t',
                    Some(byte @ (b'"' | b'\\' | b'$' | b'`')) => byte,
                    _ => {
                        return Err(self.back(
                            begin,
                            "in double quotes, \\ goes before n r t \" \\ $ or `; write \\\\ for itself",
                        ));
                    }
                }),
                Some(byte) => value.push(byte),
                None => return Err(self.back(begin, "the double quote is never closed")),
            }
        }
    }

    /// Back to where the value began, so that the lines after it are read as lines.
    fn back(&mut self, (at, line): (usize, usize), why: &str) -> String {
        (self.at, self.line) = (at, line);
        why.to_owned()
    }
}

/// The line that reads back as this value, here and in a POSIX shell.
pub(super) fn line(name: &SecretName, value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut line = Zeroizing::new(Vec::with_capacity(name.as_str().len() + value.len() * 2 + 4));
    line.extend_from_slice(name.as_str().as_bytes());
    line.push(b'=');
    let quote = if value.contains(&b'\'') { b'"' } else { b'\'' };
    line.push(quote);
    for &byte in value {
        if quote == b'"' && matches!(byte, b'"' | b'\\' | b'$' | b'`') {
            line.push(b'\\');
        }
        line.push(byte);
    }
    line.push(quote);
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests;
