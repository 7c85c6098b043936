//! One line of sshd's log. Others write to the same file, and parts of a line are whatever a stranger sent: what is not
//! exactly a line of sshd's about the gate's user is none.

use std::net::IpAddr;

/// What sshd says of the gate's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A key that may not log in was tried.
    Failed(IpAddr),
    /// Somebody logged in.
    Accepted(IpAddr, u16),
    /// A login began a session: the login shell is about to be asked.
    Session(IpAddr, u16),
    /// A forwarding was refused; sshd does not say whose.
    Forwarding,
    /// A login wanted more sessions at once than it may have; sshd does not say whose.
    Sessions,
}

/// What a line says, for this user.
pub(super) fn parse(line: &str, user: &str) -> Option<Event> {
    // sshd ends lines as terminals want them where it writes the file itself.
    let message = message(line.strip_suffix('\r').unwrap_or(line))?;
    if let Some(rest) = message.strip_prefix("Failed publickey for ") {
        return place(rest.strip_prefix(user)?.strip_prefix(" from ")?).map(|(from, _)| Event::Failed(from));
    }
    if let Some(rest) = message.strip_prefix("Accepted publickey for ") {
        let (from, port) = place(rest.strip_prefix(user)?.strip_prefix(" from ")?)?;
        return Some(Event::Accepted(from, port));
    }
    if let Some(rest) = message.strip_prefix("Starting session: ") {
        // What comes before may be of the client's choice: the end is sshd's own.
        let (rest, number) = rest.rsplit_once(" id ")?;
        number.parse::<u32>().ok()?;
        let (rest, at) = rest.rsplit_once(" from ")?;
        rest.strip_suffix(user)?.ends_with(" for ").then_some(())?;
        let (from, port) = place(at)?;
        return Some(Event::Session(from, port));
    }
    let lower = message.to_ascii_lowercase();
    if lower.starts_with("refused local port forward: ")
        || lower.starts_with("refused streamlocal port forward: ")
    {
        return Some(Event::Forwarding);
    }
    (lower.starts_with("error: no more sessions") || lower == "no more sessions").then_some(Event::Sessions)
}

/// `192.0.2.7 port 50000`, and perhaps more words.
fn place(text: &str) -> Option<(IpAddr, u16)> {
    let mut words = text.split(' ');
    let from: IpAddr = words.next()?.parse().ok()?;
    (words.next()? == "port").then_some(())?;
    Some((from.to_canonical(), words.next()?.parse().ok()?))
}

/// What sshd itself said: after its name and pid as syslog writes them, or the whole line where sshd writes the file itself.
fn message(line: &str) -> Option<&str> {
    const OWN: [&str; 6] = [
        "Failed publickey",
        "Accepted publickey",
        "Starting session",
        "Refused ",
        "refused ",
        "error: no more sessions",
    ];
    if OWN.iter().any(|own| line.starts_with(own)) {
        return Some(line);
    }
    // `2026-01-02T03:04:05.6+00:00 host sshd[7]: …` or `Jan  2 03:04:05 host sshd[7]: …`
    let first = line.split(' ').next()?;
    let before = if first.bytes().next()?.is_ascii_digit() { 2 } else { 4 };
    let mut rest = line;
    for _ in 0..before {
        rest = rest.split_once(' ')?.1.trim_start_matches(' ');
    }
    let (tag, message) = rest.split_once("]: ")?;
    let pid = tag.strip_prefix("sshd[").or_else(|| tag.strip_prefix("sshd-session["))?;
    pid.parse::<u32>().ok()?;
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: &str = "192.0.2.7";

    fn of(message: &str) -> Option<Event> {
        let long =
            parse(&format!("2026-11-22T19:40:00.123456+00:00 web1 sshd[123]: {message}"), "allod-gate");
        let short = parse(&format!("Nov  2 19:40:00 web1 sshd-session[123]: {message}"), "allod-gate");
        assert_eq!(long, short);
        assert_eq!(long, parse(message, "allod-gate"), "{message}");
        assert_eq!(long, parse(&format!("{message}\r"), "allod-gate"), "{message}");
        long
    }

    fn from() -> IpAddr {
        FROM.parse().unwrap()
    }

    #[test]
    fn what_sshd_says_of_the_gates_user_is_read() {
        let key = "ED25519 SHA256:z/fSv0Z0RZS+Lccbc6ZoOWwt/fbj1VFJGSBKQbo4icE";
        let failed = of(&format!("Failed publickey for allod-gate from {FROM} port 5000 ssh2: {key}"));
        assert_eq!(failed, Some(Event::Failed(from())));
        let accepted =
            of(&format!("Accepted publickey for allod-gate from ::ffff:{FROM} port 5000 ssh2: {key}"));
        assert_eq!(accepted, Some(Event::Accepted(from(), 5000)));
        for kind in
            ["forced-command (config) '/usr/local/sbin/allod-gate'", "shell", "command", "subsystem 'sftp'"]
        {
            let session = of(&format!("Starting session: {kind} for allod-gate from {FROM} port 5000 id 0"));
            assert_eq!(session, Some(Event::Session(from(), 5000)));
        }
        assert_eq!(
            of("refused local port forward: originator 127.0.0.1 port 1, target x port 22"),
            Some(Event::Forwarding)
        );
        assert_eq!(of("error: no more sessions"), Some(Event::Sessions));
    }

    #[test]
    fn a_name_or_a_subsystem_that_says_what_sshd_would_say_is_not_believed() {
        for message in [
            "Failed publickey for invalid user allod-gate from 9.9.9.9 port 1 ssh2: x from 192.0.2.7 port 2 ssh2: y",
            "Failed publickey for allod-gate2 from 9.9.9.9 port 1 ssh2",
            "Failed publickey for allod-gate from nowhere port 1 ssh2",
            "Failed publickey for allod-gate from 9.9.9.9 port 99999 ssh2",
            "Accepted publickey for root from 9.9.9.9 port 1 ssh2",
            "Accepted publickey for x allod-gate from 9.9.9.9 port 1 ssh2",
            "Starting session: subsystem 'a for allod-gate from 9.9.9.9 port 1 id 0' for root from 192.0.2.7 port 2 id 0",
            "Starting session: command for allod-gate from 9.9.9.9 port 1 id 0 x",
            "Starting session: command for xallod-gate from 9.9.9.9 port 1 id 0",
        ] {
            assert_eq!(of(message), None, "{message}");
        }
        let own = "Starting session: subsystem 'x for root from 1.1.1.1 port 1 id 0' for allod-gate from 192.0.2.7 port 5 id 3";
        assert_eq!(of(own), Some(Event::Session(from(), 5)));
    }

    #[test]
    fn a_line_of_another_program_is_none_whatever_it_repeats() {
        let said = "Accepted publickey for allod-gate from 192.0.2.7 port 5 ssh2";
        for line in [
            format!("2026-11-22T19:40:00+00:00 web1 sudo[123]: sshd[1]: {said}"),
            format!("2026-11-22T19:40:00+00:00 web1 app: x sshd[1]: {said}"),
            format!("Nov  2 19:40:00 web1 sshd: {said}"),
            format!("Nov  2 19:40:00 web1 sshd[x]: {said}"),
            format!("x {said}"),
            String::new(),
            " ".repeat(50),
            "2026".to_owned(),
            "]: ]: ]: ".to_owned(),
        ] {
            assert_eq!(parse(&line, "allod-gate"), None, "{line}");
        }
    }
}
