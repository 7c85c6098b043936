use super::*;
use crate::{Signer as _, fixtures::key};
use allod_proto::{Role, Timestamp};
use proptest::prelude::{any, proptest};

fn public(seed: u8) -> String {
    key(seed).public_key().to_openssh()
}

fn refused(options: &str) -> String {
    let keys = EnrolledKeys::parse(&format!("{options} {} ann", public(1)));
    assert_eq!(keys.entries(), [], "{options}");
    assert_eq!(keys.complaints().len(), 1, "{options}");
    keys.complaints()[0].message.clone()
}

fn grant(options: &str) -> Grant {
    let keys = EnrolledKeys::parse(&format!("{options} {} ann", public(1)));
    assert_eq!(keys.complaints(), [], "{options}");
    keys.entries()[0].grant().clone()
}

#[test]
fn a_plain_line_authorises_nobody_and_the_complaint_names_the_option() {
    assert!(refused("").contains("role= is missing"));
    assert!(refused("apps=blog").contains("role= is missing"));
}

#[test]
fn an_option_that_is_not_understood_authorises_nobody() {
    let bad = [
        "restrict,role=owner",
        "role=owner,command=\"/bin/sh\"",
        "role=owner,no-pty",
        "Role=owner",
        "role=owner,tags=x",
        "role=owner,",
        ",role=owner",
        "role=owner,,apps=blog",
        "role=owner,apps=blog,shop",
        "role=owner, apps=blog",
        "role =owner",
    ];
    for options in bad {
        refused(options);
    }
    assert!(refused("role=owner,apps=blog,shop").contains("a list needs quotes"));
    assert!(refused("role=owner,tags=x").contains("\"tags\""));
}

#[test]
fn a_value_that_is_not_understood_authorises_nobody() {
    let bad = [
        "role=root",
        "role=Owner",
        "role=\"\"",
        "role",
        "role=owner,role=viewer",
        "role=\"owner",
        "role=\"owner\"x",
        "role=o\"wner\"",
        "role=viewer,apps=\"\"",
        "role=viewer,apps=\"blog,\"",
        "role=viewer,apps=*",
        "role=viewer,commands=\"Deploy\"",
        "role=viewer,commands=\"a b\"",
        "role=viewer,from=\"host.example\"",
        "role=viewer,from=\"!10.0.0.1\"",
        "role=viewer,from=\"10.0.0.1/8\"",
        "role=viewer,expiry-time=2030",
        "role=viewer,expiry-time=20301301",
        "role=viewer,expiry-time=20300230",
        "role=viewer,expiry-time=203001012500",
        "role=viewer,expiry-time=20300101Zulu",
        "role=viewer,expiry-time=+5d",
        "role=viewer,expiry-time=19691231",
        "role=viewer,cert-authority=yes,principals=ops",
        "role=viewer,cert-authority,cert-authority,principals=ops",
    ];
    for options in bad {
        refused(options);
    }
}

#[test]
fn a_ca_without_principals_and_principals_without_a_ca_authorise_nobody() {
    assert!(refused("cert-authority,role=owner").contains("principals= is missing"));
    assert!(refused("principals=ops,role=owner").contains("needs cert-authority"));
    refused("cert-authority,principals=\"\",role=owner");
    refused("cert-authority,principals=\"ops,\",role=owner");
}

#[test]
fn a_line_without_a_good_key_authorises_nobody_and_the_others_work() {
    let good = format!("role=viewer {} ann", public(1));
    let bad = [
        "role=owner".to_owned(),
        "role=owner ssh-ed25519".to_owned(),
        "role=owner ssh-ed25519 AAAA ann".to_owned(),
        "role=owner ssh-dss AAAAB3NzaC1kc3M= ann".to_owned(),
        "role=owner ssh-ed25519-cert-v01@openssh.com AAAA ann".to_owned(),
        format!("role=owner ssh-rsa {} ann", public(2).split_once(' ').unwrap().1),
        format!("role=owner {}\u{7} ann", public(2)),
        format!("role=owner {} ann\u{202e}nna", public(2)),
        format!("role=owner {} {}", public(2), "n".repeat(129)),
        "\u{feff}garbage".to_owned(),
    ];
    for line in bad {
        let keys = EnrolledKeys::parse(&format!("{line}\n{good}\n"));
        assert_eq!(keys.entries().len(), 1, "{line}");
        assert_eq!(keys.entries()[0].line(), 2);
        assert_eq!(
            keys.complaints().iter().map(|complaint| complaint.line).collect::<Vec<_>>(),
            [1],
            "{line}"
        );
    }
}

#[test]
fn of_a_key_that_stands_there_twice_only_the_first_line_counts() {
    let text = format!("role=viewer {} ann\nrole=owner {} ann again\n", public(1), public(1));
    let keys = EnrolledKeys::parse(&text);
    assert_eq!(keys.find(&key(1).fingerprint()).unwrap().grant().role, Role::Viewer);
    assert_eq!(keys.complaints()[0].line, 2);
    assert!(keys.complaints()[0].message.contains("line 1"));
}

#[test]
fn a_ca_has_a_line_per_role_but_a_principal_only_one() {
    let ca = public(1);
    let text = format!(
        "cert-authority,principals=\"ops,root\",role=owner {ca} ca\n\
         cert-authority,principals=\"dev\",role=deployer {ca} ca\n\
         cert-authority,principals=\"web,ops\",role=viewer {ca} ca\n"
    );
    let keys = EnrolledKeys::parse(&text);
    let roles: Vec<_> = keys.authorities(&key(1).fingerprint()).map(|line| line.grant().role).collect();
    assert_eq!(roles, [Role::Owner, Role::Deployer]);
    assert_eq!(keys.complaints()[0].line, 3);
    assert_eq!(keys.find(&key(1).fingerprint()), None, "a CA does not sign requests itself");
}

#[test]
fn options_are_read_as_written() {
    let read = grant(
        "role=\"deployer\",apps=\"blog, shop/*\",commands=\"deploy-site,app.deploy\",from=\"100.64.0.0/10,fd7a::1\"",
    );
    assert_eq!(read.role, Role::Deployer);
    assert_eq!(read.apps.unwrap().iter().map(ToString::to_string).collect::<Vec<_>>(), ["blog", "shop/*"]);
    assert_eq!(read.commands.unwrap(), ["deploy-site", "app.deploy"]);
    assert_eq!(
        read.from.unwrap().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["100.64.0.0/10", "fd7a::1"]
    );
    assert_eq!(grant("role=owner").role, Role::Owner);
}

#[test]
fn an_expiry_is_in_utc_with_or_without_z() {
    for (text, expected) in [
        ("20300101", 1_893_456_000_000),
        ("20300101Z", 1_893_456_000_000),
        ("203001011230", 1_893_501_000_000),
        ("20300101123045Z", 1_893_501_045_000),
        ("20320229", 1_961_625_600_000),
    ] {
        assert_eq!(
            grant(&format!("role=viewer,expiry-time={text}")).expires,
            Some(Timestamp(expected)),
            "{text}"
        );
    }
}

#[test]
fn comments_blank_lines_and_line_ends_of_dos_are_fine() {
    let text = format!("# who\r\n\r\n   \t\r\n  role=owner \t {}   Ann  Smith \r\n", public(1));
    let keys = EnrolledKeys::parse(&text);
    assert_eq!(keys.complaints(), []);
    let entry = &keys.entries()[0];
    assert_eq!((entry.line(), entry.comment(), entry.name()), (4, "Ann  Smith", "Ann  Smith"));
    let nameless = EnrolledKey::parse(&format!("role=owner {}", public(1))).unwrap();
    assert_eq!(nameless.name(), key(1).fingerprint().as_str());
    assert_eq!(EnrolledKeys::parse("").entries(), []);
}

#[test]
fn an_entry_that_would_read_back_as_another_cannot_be_made() {
    let new = |grant: Grant, comment: &str, authority: Option<Vec<String>>| {
        EnrolledKey::new(key(1).public_key().clone(), comment, grant, authority)
    };
    let open = Grant::of(Role::Viewer);
    let commands = |name: &str| Grant { commands: Some(vec![name.to_owned()]), ..open.clone() };
    assert!(new(commands("a\",expiry-time=\"20990101"), "ann", None).is_err());
    assert!(new(commands("a,b"), "ann", None).is_err());
    assert!(new(Grant { apps: Some(vec![]), ..open.clone() }, "ann", None).is_err());
    assert!(new(open.clone(), "ann\nrole=owner", None).is_err());
    assert!(new(open.clone(), "ann", Some(vec!["ops\",role=\"owner".to_owned()])).is_err());
    assert!(new(open.clone(), "ann", Some(vec![])).is_err());
    let cut = new(Grant { expires: Some(Timestamp(1_893_456_000_999)), ..open }, "ann", None).unwrap();
    assert_eq!(cut.grant().expires, Some(Timestamp(1_893_456_000_000)));
}

#[test]
fn a_line_written_is_the_entry_read() {
    for options in [
        "role=owner",
        "role=caller,commands=\"deploy-site,instagram_post\"",
        "role=deployer,apps=\"blog,shop/*,x/staging\",from=\"100.64.0.0/10\",expiry-time=\"20300101123045Z\"",
        "role=operator,principals=\"ops,on-call\",cert-authority",
    ] {
        let entry = EnrolledKey::parse(&format!("{options} {} Ann, of \"ops\"", public(1))).unwrap();
        assert_eq!(EnrolledKey::parse(&entry.to_line()).unwrap(), entry);
        let made = EnrolledKey::new(
            entry.public().clone(),
            entry.comment(),
            entry.grant().clone(),
            entry.authority().map(<[String]>::to_vec),
        );
        assert_eq!(made.unwrap(), entry);
    }
}

#[test]
fn a_line_for_sshd_restricts_first_and_has_the_keys_own_limits() {
    let line = |options: &str, command: &str| {
        EnrolledKey::parse(&format!("{options} {} b\"x", public(1))).unwrap().to_sshd_line(command)
    };
    for command in ["", "a\"b", "a\\b", "a\nb", "a;b", "a$b", "a'b", "a%b", "a=b", "é"] {
        assert!(line("role=caller", command).is_err(), "{command:?}");
    }
    assert!(line("role=caller,principals=\"x\",cert-authority", "allod gate").is_err());
    assert_eq!(
        line("role=caller", "allod gate --caller b").unwrap(),
        format!("restrict,command=\"allod gate --caller b\" {} b\"x", public(1))
    );
    assert_eq!(
        line(
            "role=caller,commands=\"x\",from=\"10.0.0.0/8,fd00::1\",expiry-time=\"20300101Z\"",
            "allod gate"
        )
        .unwrap(),
        format!(
            "restrict,command=\"allod gate\",from=\"10.0.0.0/8,fd00::1\",expiry-time=\"20300101000000Z\" {} b\"x",
            public(1)
        )
    );
}

proptest! {
    #[test]
    fn no_text_makes_an_owner_without_saying_so(text in any::<String>(), junk in "[ -~]{0,40}") {
        let keys = EnrolledKeys::parse(&format!("{text}\n{junk} {} ann", public(1)));
        assert!(keys.entries().iter().all(|entry| entry.line() > 0));
        if !junk.contains("owner") && !text.contains("owner") {
            assert!(keys.entries().iter().all(|entry| entry.grant().role != Role::Owner));
        }
    }
}
