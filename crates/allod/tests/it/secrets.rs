//! Secrets: the exact bytes reach the app, and nothing else on the server has them in the clear.

use crate::{app::App, processes::eventually, world::World};
use allod_proto::Digest;
use std::path::Path;

const CANARY: &str = "canary-5f1e9ad07c-do-not-leak";

/// An app that prints the digest of what it finds on its descriptor.
fn worker(world: &World) -> App {
    let app = world.app("vault");
    let script = "#!/bin/sh\nprintf 'digest '; sha256sum < /dev/fd/$ALLOD_SECRETS_FD | cut -d' ' -f1\n\
                  env | grep -q canary && echo LEAKED\nexec sleep 600\n";
    std::fs::write(app.folder.join("work.sh"), script).unwrap();
    app.write_document(
        "name = \"vault\"\n\n[units.worker]\nstart = [\"sh\", \"work.sh\"]\nhealth = { running = \"300ms\" }\n\n\
         [secrets]\nTOKEN = \"descriptor\"\n",
    );
    app
}

async fn digest_in_log(world: &World, app: &App, of: &str) {
    let expected = format!("digest {}", Digest::of(of));
    eventually(&format!("the app sees {of:?}"), async || {
        let logs = app.run(world, &["logs", "--tail", "50"]).await.ok();
        assert!(!logs.stdout.contains("LEAKED"), "{logs:?}");
        logs.stdout.contains(&expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_secret_reaches_its_app_byte_for_byte_and_lies_nowhere_in_the_clear() {
    let world = World::up().await;
    let app = worker(&world);
    let refused = app.run(&world, &["deploy"]).await;
    assert_eq!(refused.code, 2, "a secret that is not set: {refused:?}");
    assert!(refused.stdout.contains("secrets set TOKEN"), "{refused:?}");
    // Quotes, a line break, no newline at the end: kept as they are.
    let value = format!("{CANARY} \"quoted\"\n\ttail ");
    let set =
        world.cli.run_with_input(&app.folder, &["secrets", "set", "TOKEN", "-"], value.as_bytes()).await.ok();
    assert!(!set.stdout.contains(CANARY) && !set.stderr.contains(CANARY), "{set:?}");
    app.run(&world, &["deploy"]).await.ok();
    let on_descriptor = serde_json::json!({"TOKEN": value}).to_string();
    digest_in_log(&world, &app, &on_descriptor).await;

    let list = app.run(&world, &["secrets", "list"]).await.ok();
    assert!(list.stdout.contains("TOKEN") && !list.stdout.contains(CANARY), "{list:?}");
    world.allod(&["audit", "show", "--last", "500"]).await.ok();
    assert_eq!(files_with(&world.state, CANARY.as_bytes()), Vec::<String>::new());

    // A new value comes with a restart, and a rollback of it is not needed to see the old one go.
    let fresh = format!("{CANARY}-2");
    world.cli.run_with_input(&app.folder, &["secrets", "set", "TOKEN", "-"], fresh.as_bytes()).await.ok();
    app.run(&world, &["restart"]).await.ok();
    digest_in_log(&world, &app, &serde_json::json!({"TOKEN": fresh}).to_string()).await;
    assert_eq!(files_with(&world.state, CANARY.as_bytes()), Vec::<String>::new());
    app.run(&world, &["secrets", "rm", "TOKEN"]).await.ok();
    let gone = app.run(&world, &["restart"]).await;
    assert_eq!(gone.code, 2, "{gone:?}");
}

/// Files below a folder that hold these bytes.
fn files_with(folder: &Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file()
                && path.file_name().is_some_and(|name| name != "allod")
                && std::fs::read(&path)
                    .is_ok_and(|bytes| bytes.windows(needle.len()).any(|part| part == needle))
            {
                found.push(path.display().to_string());
            }
        }
    }
    found
}
