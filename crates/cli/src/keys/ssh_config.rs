//! What `~/.ssh/config` says of a host: `IdentityFile`, `IdentityAgent`, `IdentitiesOnly`, with `Host` patterns and
//! `Include`. As in ssh_config(5), the first value wins, and `IdentityFile` adds up. `Match` blocks other than `all`
//! are passed over.

use std::path::{Path, PathBuf};

/// How deep files may include each other.
const DEPTH: usize = 8;
/// Larger files are passed over, in bytes.
const LIMIT: u64 = 1024 * 1024;

/// What is said of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostConfig {
    /// Key files, in order.
    pub identity_files: Vec<PathBuf>,
    /// Which agent to ask.
    pub identity_agent: Option<AgentChoice>,
    /// Whether the agent's other keys are not to be offered.
    pub identities_only: Option<bool>,
}

/// Which agent to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentChoice {
    /// None at all.
    None,
    /// The one of the environment.
    Environment,
    /// The one behind this socket.
    Socket(PathBuf),
}

/// Reads what the person's configuration says of a host that goes by any of these names.
#[must_use]
pub fn host_config(home: &Path, names: &[&str]) -> HostConfig {
    let mut reading = Reading { home, names, found: HostConfig::default() };
    reading.file(&home.join(".ssh/config"), true, 0);
    reading.found
}

struct Reading<'a> {
    home: &'a Path,
    names: &'a [&'a str],
    found: HostConfig,
}

impl Reading<'_> {
    fn file(&mut self, path: &Path, mut applies: bool, depth: usize) {
        let small = std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= LIMIT);
        let Some(text) = small.then(|| std::fs::read_to_string(path).ok()).flatten() else { return };
        // A block within an included file can't apply where the `Include` itself does not.
        let outer = applies;
        for line in text.lines() {
            let Some((keyword, words)) = split(line) else { continue };
            match keyword.as_str() {
                "host" => applies = outer && matches(&words, self.names),
                "match" => {
                    applies = outer && words.len() == 1 && words.iter().all(|w| w.eq_ignore_ascii_case("all"))
                }
                "include" if applies && depth < DEPTH => {
                    let files: Vec<_> = words.iter().flat_map(|word| self.included(word)).collect();
                    for included in files {
                        self.file(&included, true, depth + 1);
                    }
                }
                _ if applies => self.setting(&keyword, &words),
                _ => {}
            }
        }
    }

    fn setting(&mut self, keyword: &str, words: &[String]) {
        let Some(value) = words.first() else { return };
        match keyword {
            "identityfile" if !value.eq_ignore_ascii_case("none") => {
                self.found.identity_files.push(self.path(value));
            }
            "identityagent" if self.found.identity_agent.is_none() => {
                self.found.identity_agent = Some(match value.as_str() {
                    "none" => AgentChoice::None,
                    "SSH_AUTH_SOCK" | "$SSH_AUTH_SOCK" => AgentChoice::Environment,
                    socket => AgentChoice::Socket(self.path(socket)),
                });
            }
            "identitiesonly" if self.found.identities_only.is_none() => {
                self.found.identities_only = Some(value.eq_ignore_ascii_case("yes"));
            }
            _ => {}
        }
    }

    /// `~`, and the tokens `%d`, `%h`, `%n` and `%%`.
    fn path(&self, text: &str) -> PathBuf {
        let home = self.home.display().to_string();
        let host = self.names.first().copied().unwrap_or_default();
        let mut out = String::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match (c, if c == '%' { rest.next() } else { None }) {
                ('%', Some('d')) => out.push_str(&home),
                ('%', Some('h' | 'n')) => out.push_str(host),
                ('%', Some('%')) => out.push('%'),
                ('%', other) => {
                    out.push('%');
                    out.extend(other);
                }
                (c, _) => out.push(c),
            }
        }
        match out.strip_prefix("~/") {
            Some(rest) => self.home.join(rest),
            // ssh reads a relative file from the folder it runs in; from the home folder is what people mean.
            None => self.home.join(out),
        }
    }

    fn included(&self, word: &str) -> Vec<PathBuf> {
        let path = match word.strip_prefix("~/") {
            Some(rest) => self.home.join(rest),
            None => self.home.join(".ssh").join(word),
        };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !name.contains(['*', '?']) {
            return vec![path];
        }
        let folder = path.parent().unwrap_or(self.home);
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries
            .filter(|entry| glob(&name, &entry.file_name().to_string_lossy()))
            .map(|entry| entry.path())
            .collect();
        found.sort();
        found
    }
}

/// The keyword in lower case and its words; `None` for blank lines and comments.
fn split(line: &str) -> Option<(String, Vec<String>)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    Some((keyword.to_ascii_lowercase(), words(rest)))
}

fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut any) = (false, false);
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                any = true;
            }
            '#' if !quoted && !any => break,
            c if c.is_whitespace() && !quoted => {
                if any {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => {
                word.push(c);
                any = true;
            }
        }
    }
    if any {
        words.push(word);
    }
    words
}

/// Whether one pattern fits and no negated one does.
fn matches(patterns: &[String], names: &[&str]) -> bool {
    let fits = |pattern: &str| names.iter().any(|name| glob(&pattern.to_lowercase(), &name.to_lowercase()));
    let mut any = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(negated) if fits(negated) => return false,
            Some(_) => {}
            None => any = any || fits(pattern),
        }
    }
    any
}

/// `*` is any text, `?` any one character. Linear in the product of both lengths.
fn glob(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    // reachable[i]: the pattern so far fits the first i characters.
    let mut reachable: Vec<bool> = std::iter::once(true).chain(text.iter().map(|_| false)).collect();
    for p in pattern.chars() {
        let mut next = vec![false; reachable.len()];
        let mut before = false;
        for (at, slot) in next.iter_mut().enumerate() {
            let here = reachable.get(at).copied().unwrap_or(false);
            let came = at.checked_sub(1).and_then(|at| Some((*reachable.get(at)?, *text.get(at)?)));
            *slot = match p {
                '*' => here || before,
                p => came.is_some_and(|(reached, c)| reached && (p == '?' || p == c)),
            };
            before = *slot;
        }
        reachable = next;
    }
    reachable.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str, names: &[&str]) -> HostConfig {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        std::fs::write(home.path().join(".ssh/config"), text).unwrap();
        let mut found = host_config(home.path(), names);
        for file in &mut found.identity_files {
            *file = file.strip_prefix(home.path()).unwrap_or(file).to_owned();
        }
        found
    }

    #[test]
    fn another_hosts_keys_are_not_taken() {
        let text = "Host other\n IdentityFile ~/.ssh/other\nHost * !web1\n IdentityFile ~/.ssh/rest\n";
        assert_eq!(config(text, &["web1"]), HostConfig::default());
        assert_eq!(config("Match exec true\n IdentityFile ~/x\n", &["web1"]), HostConfig::default());
    }

    #[test]
    fn identity_files_add_up_and_the_first_agent_wins() {
        let text = "IdentityAgent none\nHost web?\n  IdentityFile=\"~/.ssh/a b\"\n  IdentityAgent ~/agent\n\
                    Host *\n  identityfile %d/.ssh/%h # comment\n  IdentitiesOnly yes\n";
        let found = config(text, &["web1", "100.64.0.1"]);
        assert_eq!(found.identity_files, [Path::new(".ssh/a b"), Path::new(".ssh/web1")]);
        assert_eq!(found.identity_agent, Some(AgentChoice::None));
        assert_eq!(found.identities_only, Some(true));
    }

    #[test]
    fn files_that_include_each_other_end() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join(".ssh/conf.d")).unwrap();
        std::fs::write(home.path().join(".ssh/config"), "Include conf.d/*.conf\nInclude config\n").unwrap();
        std::fs::write(home.path().join(".ssh/conf.d/a.conf"), "Host web1\nIdentityFile ~/k\n").unwrap();
        let found = host_config(home.path(), &["web1"]);
        assert!(found.identity_files.iter().all(|file| *file == home.path().join("k")));
        assert!(!found.identity_files.is_empty());
    }

    #[test]
    fn a_pattern_with_many_stars_is_cheap() {
        assert!(!glob(&"*a".repeat(200), &"a".repeat(199)));
        assert!(glob("*.example.com", "web1.example.com"));
        assert!(!glob("web?", "web"));
    }
}
