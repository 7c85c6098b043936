//! What a caller may run and what they have run, as text for people.

use allod_proto::{
    messages::named::Runnable,
    named::{RunState, RunSummary},
};

/// What may be done besides.
const LONG: &str =
    "\n`detach NAME …` begins one and says its id; `watch run-…` shows it to its end, `runs` lists yours.\n";

/// One command after the other, in the order of their names.
pub(super) fn text(caller: &str, commands: &[Runnable]) -> String {
    if commands.is_empty() {
        return format!("{caller} may run nothing here.\n");
    }
    let mut text = format!("{caller} may run:\n");
    for command in commands {
        let params: String = command.params.keys().map(|name| format!(" {name}=…")).collect();
        text.push_str(&format!("\n  {}{params}\n      {}\n", command.name, command.summary));
        for (name, meaning) in &command.params {
            text.push_str(&format!("      {name}: {meaning}\n"));
        }
        if let Some(slot) = &command.slot {
            text.push_str(&format!("      {slot} may be the end of the name\n"));
        }
        if command.approval {
            text.push_str("      somebody else must approve first\n");
        }
    }
    text.push_str(LONG);
    text
}

/// A line for each run: its id, its command, and how it stands.
pub(super) fn runs(runs: &[RunSummary]) -> String {
    let line = |run: &RunSummary| {
        let state = match &run.state {
            RunState::Waiting {} => "waits",
            RunState::Running {} => "runs",
            RunState::Ended(end) => &end.how,
        };
        format!("{} {} {state}\n", run.id, run.name)
    };
    runs.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_its_parameters_and_what_they_may_be() {
        assert_eq!(text("builder", &[]), "builder may run nothing here.\n");
        let command = Runnable {
            name: "deploy".parse().unwrap(),
            summary: "Deploy a site.".to_owned(),
            params: [("site".parse().unwrap(), "blog or shop".to_owned())].into(),
            slot: Some("site".parse().unwrap()),
            approval: true,
        };
        let said = text("builder", &[command]);
        assert_eq!(
            said,
            "builder may run:\n\n  deploy site=…\n      Deploy a site.\n      site: blog or shop\n      site may be the end of the \
             name\n      somebody else must approve first\n".to_owned() + LONG
        );
    }
}
