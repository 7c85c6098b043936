//! What is allowed and yet should be looked at twice: a line each, with what to do instead.

use allod_proto::named::{Definition, ParamKind};

/// Programs that read their arguments as a language.
const LANGUAGES: &[&str] = &[
    "sh",
    "bash",
    "dash",
    "zsh",
    "ksh",
    "fish",
    "busybox",
    "python",
    "python3",
    "perl",
    "ruby",
    "node",
    "php",
    "lua",
    "awk",
    "gawk",
    "mawk",
    "sed",
    "env",
    "xargs",
    "find",
    "sudo",
    "su",
    "ssh",
    "nsenter",
    "chroot",
    "systemd-run",
    "git",
    "tar",
    "vim",
    "vi",
    "less",
    "more",
    "man",
];

/// Variables that make a program run something else.
const LOADING: &[&str] = &[
    "LD_",
    "DYLD_",
    "BASH_ENV",
    "ENV",
    "IFS",
    "PYTHONPATH",
    "PERL5LIB",
    "RUBYLIB",
    "NODE_OPTIONS",
    "GIT_SSH",
];

/// What one run of a command has no need for, mostly.
const MUCH_MEMORY: u64 = 16 << 30;
const MANY_PROCESSES: u32 = 4096;

/// The warnings; none for a definition that a reviewer would let through.
#[must_use]
pub fn lint(definition: &Definition) -> Vec<String> {
    let mut warnings = Vec::new();
    let program = definition.exec.first().map_or("", String::as_str);
    let base = program.rsplit('/').next().unwrap_or_default();
    if LANGUAGES.contains(&base) {
        warnings.push(format!(
            "{base} reads its arguments as instructions: write a script that does just this, and name it in exec \
             (with interpreter, where it takes one)"
        ));
    }
    if !definition.interpreter.is_empty() && definition.digest.is_none() {
        warnings.push(format!(
            "a script with no digest is whatever {program} holds when it is called; what it reads besides is not \
             covered either: add digest = \"…\" (`allod commands lint --digest`)"
        ));
    }
    if definition.run_as.as_deref() == Some("root") && definition.approval.is_none() {
        warnings.push(
            "it runs as root: can another user do it? If not, let a second person say yes: approval = true"
                .to_owned(),
        );
    }
    for (name, param) in &definition.params {
        if let ParamKind::Pattern { pattern, .. } = &param.kind
            && (pattern.contains(".*") || pattern.contains(".+"))
        {
            warnings.push(format!(
                "parameter {name} lets nearly everything through: a choice, a list, or a narrower pattern is safer"
            ));
        }
    }
    for name in definition.env.keys() {
        if LOADING.iter().any(|word| name == word || (word.ends_with('_') && name.starts_with(word))) {
            warnings.push(format!("{name} makes programs load or run something else"));
        }
    }
    if definition.memory() > MUCH_MEMORY || definition.process_bound() > MANY_PROCESSES {
        warnings.push(
            "it may use more memory or processes than most servers have: a bound is what one run of it needs"
                .to_owned(),
        );
    }
    if definition.callers.is_empty() {
        warnings
            .push("no machine may run it, only operators: name keys of role caller in callers".to_owned());
    }
    warnings
}
