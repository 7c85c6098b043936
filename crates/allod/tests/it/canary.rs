//! A canary in every secret, and then a search for it: what is printed, logged, recorded, kept on the disk, in arguments,
//! environments and memory of the programs. In the clear, in hexadecimal, in base64.

use crate::{cli::Output, processes::eventually, world::World};
use allod_signing::KeySigner;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use memchr::memmem::Finder;
use std::{
    collections::BTreeSet,
    fs::File,
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// What opens [`LOCKED`].
const PASSPHRASE: &str = "canary-passphrase-7c41f0a2e9";
/// A key that was made for this test and is enrolled nowhere else.
const LOCKED: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABDkWHL4Y8
dfldwxsDVYkz2HAAAABAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIM+eWQNwcOAGoKsR
hCG0UdXxTMl1aBJVA864u38Epv7SAAAAkMEBoyUL2ljZiSr148cA9TabCQgfCd+TCjRPxb
5kDJhTH3lcOl7L4YAaZVGGLl4tfQRYmuFd4PD9T1eRW4+OYyA+oiPudcf8b6kirgG0chNr
m7/2oEWPxe2qxBXqXrBjDm5cH3y1jW/kPT/Mub5cMYoy3MMSR78yXRJyfLv776lfSDgnq2
NChhAVFSnAYBKLLg==
-----END OPENSSH PRIVATE KEY-----
";

/// Something secret in every form in which it could lie somewhere.
struct Canary {
    name: &'static str,
    forms: Vec<Finder<'static>>,
}

impl Canary {
    fn new(name: &'static str, secret: &[u8]) -> Self {
        let hexadecimal: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![secret.to_vec(), hexadecimal.to_uppercase().into(), hexadecimal.into()];
        // What comes before it decides where in a group of base64 it begins; the ends are shared with its neighbours.
        for (before, shared) in [(0, 0), (1, 2), (2, 3)] {
            let text = STANDARD.encode([vec![0; before], secret.to_vec()].concat());
            let whole = (before + secret.len()) * 8 / 6;
            let text = &text[shared..whole];
            forms.push(text.into());
            forms.push(text.replace('+', "-").replace('/', "_").into());
        }
        forms.sort();
        forms.dedup();
        Self { name, forms: forms.into_iter().map(|form| Finder::new(&form).into_owned()).collect() }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| form.find(bytes).is_some())
    }
}

/// Where which canary was found.
fn found(canaries: &[Canary], place: &str, bytes: &[u8]) -> Vec<String> {
    canaries.iter().filter(|one| one.is_in(bytes)).map(|one| format!("{} in {place}", one.name)).collect()
}

/// In all files below a folder but these.
fn in_files(canaries: &[Canary], folder: &Path, but: &[PathBuf]) -> Vec<String> {
    let (mut all, mut open, mut count) = (Vec::new(), vec![folder.to_owned()], 0);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() && !but.contains(&path) {
                count += 1;
                let bytes = std::fs::read(&path).unwrap_or_default();
                all.extend(found(canaries, &path.display().to_string(), &bytes));
            }
        }
    }
    assert!(count > 2, "only {count} files in {}", folder.display());
    all
}

/// In what `/proc` tells of a process, and in what it can write to of its memory.
fn in_process(canaries: &[Canary], pid: u32) -> Vec<String> {
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let name = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
    let mut all = found(canaries, &format!("the arguments of {pid} {name}"), &read("cmdline"));
    all.extend(found(canaries, &format!("the environment of {pid} {name}"), &read("environ")));
    all.extend(found(canaries, &format!("the memory of {pid} {name}"), &memory(pid)));
    all
}

/// Nothing where this user may not look.
fn memory(pid: u32) -> Vec<u8> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let Ok(file) = File::open(format!("/proc/{pid}/mem")) else { return Vec::new() };
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")))
    {
        let Some((from, to)) = line.split(' ').next().and_then(|range| range.split_once('-')) else {
            continue;
        };
        let [Ok(from), Ok(to)] = [from, to].map(|text| u64::from_str_radix(text, 16)) else { continue };
        let mut part = vec![0; usize::try_from(to - from).unwrap()];
        if file.read_exact_at(&mut part, from).is_ok() {
            all.extend(part);
        }
    }
    all
}

/// The 32 bytes that an ed25519 key is made of: they stand before the last copy of its public half.
fn seed(key: &KeySigner) -> Vec<u8> {
    let text = key.to_openssh();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let blob = STANDARD.decode(body).unwrap();
    let public = STANDARD.decode(key.public_openssh().split(' ').nth(1).unwrap()).unwrap();
    let at = memchr::memmem::rfind(&blob, &public[public.len() - 32..]).unwrap();
    blob[at - 32..at].to_vec()
}

/// Everything that was said, but for what was asked to say it.
#[derive(Default)]
struct Heard(Vec<u8>);

impl Heard {
    fn listen(&mut self, output: Output) -> Output {
        self.0.extend(output.stdout.bytes().chain(output.stderr.bytes()));
        output
    }
}

const WORK: &str =
    "#!/bin/sh\nprintf 'digest '; sha256sum < /dev/fd/$ALLOD_SECRETS_FD | cut -d' ' -f1\nexec sleep 600\n";
const DOCUMENT: &str = "name = \"vault\"\n\n[units.worker]\nstart = [\"sh\", \"work.sh\"]\n\
                        health = { running = \"200ms\" }\n\n[secrets]\nTOKEN = \"descriptor\"\nOTHER = \"descriptor\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_a_passphrase_and_a_private_key_are_found_nowhere_after_a_whole_run() {
    let world = World::up_logging("trace").await;
    let values =
        ["first", "second", "third"].map(|name| format!("canary-{name}-{}", crate::wire::random_word()));
    let locked = KeySigner::from_openssh(LOCKED, Some(PASSPHRASE.as_bytes())).unwrap();
    let secrets = [
        Canary::new("the first value", values[0].as_bytes()),
        Canary::new("the second value", values[1].as_bytes()),
        Canary::new("the third value", values[2].as_bytes()),
        Canary::new("the passphrase", PASSPHRASE.as_bytes()),
        Canary::new("the locked key", &seed(&locked)),
    ];
    let keys = [Canary::new("the owner's key", &seed(&world.owner()))];
    let mut heard = Heard::default();
    let home = a_life(&world, &values, &locked, &mut heard).await;

    assert_eq!(found(&secrets, "what was printed", &heard.0), Vec::<String>::new());
    let mut all = in_files(&secrets, &world.state, &[]);
    all.extend(in_files(&secrets, &home, &[]));
    all.extend(in_files(&keys, &world.state, &[PathBuf::from(world.ready["key"].as_str().unwrap())]));
    assert_eq!(all, Vec::<String>::new());
    let processes: BTreeSet<u32> = world.processes();
    assert!(processes.len() >= 5, "{processes:?}");
    if rustix::process::geteuid().is_root() {
        assert!(memory(world.pid("agent")).len() > 1 << 20, "the agent's memory can be read here");
    }
    let all: Vec<String> = processes.iter().flat_map(|pid| in_process(&secrets, *pid)).collect();
    assert_eq!(all, Vec::<String>::new());
}

/// Set, deployed, failed, rotated, exported, mistyped, with the right passphrase and with a wrong one.
async fn a_life(world: &World, values: &[String; 3], locked: &KeySigner, heard: &mut Heard) -> PathBuf {
    let app = world.app("vault");
    std::fs::write(app.folder.join("work.sh"), WORK).unwrap();
    app.write_document(DOCUMENT);
    let set = async |name: &str, value: &str, more: &[&str]| {
        let words = [&["secrets", "set", name, "-"], more].concat();
        world.cli.run_with_input(&app.folder, &words, value.as_bytes()).await
    };
    heard.listen(set("TOKEN", &values[0], &[]).await.ok());
    assert_ne!(heard.listen(set("no name", &values[0], &[]).await).code, 0);
    assert_ne!(heard.listen(set("TOKEN", &format!("{}\0", values[0]), &[]).await).code, 0);
    std::fs::write(app.folder.join("values.env"), format!("OTHER={}\n", values[1])).unwrap();
    heard.listen(app.run(world, &["secrets", "import", "values.env"]).await.ok());
    std::fs::write(app.folder.join("values.env"), format!("OTHER={}\n= {}\n", values[1], values[1])).unwrap();
    heard.listen(app.run(world, &["secrets", "import", "values.env"]).await);
    std::fs::remove_file(app.folder.join("values.env")).unwrap();
    heard.listen(app.run(world, &["deploy"]).await.ok());
    heard.listen(set("TOKEN", &values[2], &["--restart"]).await.ok());
    eventually("the app has read it", async || {
        let logs = app.run(world, &["logs", "--tail", "50"]).await.ok();
        (logs.stdout.matches("digest ").count() >= 2).then_some(heard.listen(logs))
    })
    .await;
    // A release that dies at once, and one whose secret is missing.
    std::fs::write(app.folder.join("work.sh"), "#!/bin/sh\nexit 3\n").unwrap();
    assert_eq!(heard.listen(app.run(world, &["deploy"]).await).code, 8);
    app.write_document(&DOCUMENT.replace("OTHER", "ABSENT"));
    assert_ne!(heard.listen(app.plain(world, &["deploy", "--yes"]).await).code, 0);
    app.write_document(DOCUMENT);
    for words in [&["secrets", "list"][..], &["status"], &["audit", "show", "--last", "500"], &["doctor"]] {
        heard.listen(app.run(world, words).await);
        heard.listen(app.plain(world, words).await);
    }
    // The one place where values are to be seen.
    let exported = app.run(world, &["secrets", "export"]).await.ok();
    assert!(exported.stdout.contains(&values[2]) && exported.stdout.contains(&values[1]), "{exported:?}");
    let third = [Canary::new("the third value", values[2].as_bytes())];
    assert_eq!(found(&third, "what was exported", exported.stdout.as_bytes()).len(), 1);
    behind_a_passphrase(world, locked, heard).await
}

/// Somebody whose key is locked, with a wrong passphrase and with the right one.
async fn behind_a_passphrase(world: &World, locked: &KeySigner, heard: &mut Heard) -> PathBuf {
    let person = world.person("canary", locked);
    let file = person.home.join("key");
    std::fs::write(&file, LOCKED).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    heard.listen(world.allod(&["keys", "add", &locked.public_openssh(), "--role", "viewer"]).await.ok());
    let words = ["--passphrase-fd", "0", "servers", "status"];
    let wrong = format!("{PASSPHRASE}!");
    assert_ne!(heard.listen(person.run_with_input(&person.home, &words, wrong.as_bytes()).await).code, 0);
    heard.listen(person.run_with_input(&person.home, &words, PASSPHRASE.as_bytes()).await.ok());
    assert_ne!(heard.listen(person.run(&["servers", "status"]).await).code, 0, "nobody can be asked");
    person.home
}

#[test]
fn the_search_finds_what_is_there_in_every_form() {
    let secret = crate::wire::random_word();
    let canary = [Canary::new("it", secret.as_bytes())];
    let hexadecimal: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    for before in ["", "a", "ab", "abc", "abcd"] {
        let encoded = STANDARD.encode(format!("{before}{secret} and more"));
        assert!(canary[0].is_in(encoded.as_bytes()), "after {before:?}");
    }
    for text in [format!("x{secret}y"), hexadecimal.to_uppercase(), format!("0x{hexadecimal}")] {
        assert!(canary[0].is_in(text.as_bytes()), "{text}");
    }
    assert!(!canary[0].is_in(crate::wire::random_word().as_bytes()));
    // This program's own memory has it, so a memory that has it is not overlooked.
    let of_this = in_process(&canary, std::process::id());
    assert!(of_this.iter().any(|found| found.contains("memory")), "{of_this:?}");
    let key = KeySigner::generate([7; 32], "of sevens");
    assert_eq!(seed(&key), [7; 32]);
}

#[tokio::test]
async fn no_program_that_holds_keys_writes_core_dumps_or_can_be_looked_into() {
    let world = World::up().await;
    for program in ["agent", "executor", "proxy", "hub"] {
        let pid = world.pid(program);
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let bounds: Vec<_> = core.split_ascii_whitespace().skip(4).take(2).collect();
        assert_eq!(bounds, ["0", "0"], "{program}");
        // The kernel gives the files of a process that is closed to inspection to root.
        let owner =
            std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{pid}/mem")).unwrap());
        assert_eq!(owner, 0, "{program}");
    }
    let up = std::fs::metadata(format!("/proc/{}/mem", world.up_pid())).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&up), 0, "`allod up` holds the owner's key");
}
