use super::*;
use crate::names::CommandId;

fn id() -> CommandId {
    CommandId::new("0123456789abcdef").unwrap()
}

fn refused(body: &str) -> Fault {
    Request::parse(body.as_bytes()).unwrap_err()
}

#[test]
fn an_unknown_field_anywhere_is_refused() {
    for body in [
        r#"{"v":1,"id":"0123456789abcdef","command":"hello","params":{},"more":1}"#,
        r#"{"v":1,"id":"0123456789abcdef","command":"hello","params":{"more":1}}"#,
        r#"{"v":1,"id":"0123456789abcdef","command":"app.status","params":{"app":"blog","more":1}}"#,
    ] {
        assert_eq!(refused(body).code, FaultCode::Malformed, "{body}");
    }
}

#[test]
fn a_message_that_is_not_a_request_is_refused_and_says_what_one_is() {
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "{\"v\":1}",
        "\u{0}",
        "{\"v\":\"1\",\"id\":\"0123456789abcdef\",\"command\":\"hello\"}",
    ] {
        let fault = refused(body);
        assert_eq!(fault.code, FaultCode::Malformed);
        assert!(fault.hint.is_some());
    }
}

#[test]
fn another_protocol_version_is_refused_with_the_range() {
    for (v, who) in [(0, "the client is too old"), (crate::VERSION + 1, "this server is too old")] {
        let fault = refused(&format!(r#"{{"v":{v},"id":"0123456789abcdef","command":"hello"}}"#));
        assert_eq!(fault.code, FaultCode::Version);
        assert!(fault.message.contains("1 to 2"), "{fault:?}");
        assert!(fault.hint.unwrap().contains(who));
    }
}

#[test]
fn what_a_later_version_brought_is_refused_in_an_earlier_one() {
    let old = Request::parse(br#"{"v":1,"id":"0123456789abcdef","command":"hello"}"#).unwrap();
    assert_eq!(old.require_version(crate::DELEGATION_VERSION).unwrap_err().code, FaultCode::Version);
    assert!(Request { v: 2, ..old }.require_version(crate::DELEGATION_VERSION).is_ok());
}

#[test]
fn a_reply_has_the_version_of_its_request() {
    let reply = ReplyBody::of(Some(id()), Ok(Value::Null));
    assert_eq!((reply.v, reply.in_version(2).v), (1, 2));
}

#[test]
fn a_command_of_another_time_is_refused_with_its_name() {
    let fault = refused(r#"{"v":1,"id":"0123456789abcdef","command":"app.fly"}"#);
    assert!(fault.message.contains("app.fly"));
    assert_eq!(fault.request.as_deref(), Some("0123456789abcdef"));
}

#[test]
fn only_the_two_probes_answer_unsigned() {
    let probes: Vec<_> =
        CommandName::ALL.iter().filter(|name| name.kind() == Kind::Probe).map(|n| n.as_str()).collect();
    assert_eq!(probes, ["hello", "server_info"]);
}

#[test]
fn the_wire_form_is_stable() {
    let request = Request {
        v: 1,
        id: id(),
        command: Command::AppScale(app::AppScale {
            app: "blog".parse().unwrap(),
            unit: "web".parse().unwrap(),
            instances: 3,
        }),
    };
    let golden = r#"{"v":1,"id":"0123456789abcdef","command":"app.scale","params":{"app":"blog/production","instances":3,"unit":"web"}}"#;
    assert_eq!(String::from_utf8(request.to_body()).unwrap(), golden);
    assert_eq!(Request::parse(golden.as_bytes()).unwrap(), request);
}

#[test]
fn a_sealed_secret_never_stands_in_the_record() {
    let command = Command::SecretsSet(secrets::SecretsSet {
        app: "blog".parse().unwrap(),
        secrets: vec![secrets::SealedSecret {
            name: "TOKEN".parse().unwrap(),
            sealed: "c2VhbGVk".to_owned(),
        }],
    });
    assert!(!command.recorded_params().to_string().contains("c2VhbGVk"));
}

#[test]
fn every_command_names_itself_once() {
    let mut names: Vec<_> = CommandName::ALL.iter().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let before = names.len();
    names.dedup();
    assert_eq!(names.len(), before);
    for name in CommandName::ALL {
        assert_eq!(CommandName::from_wire(name.as_str()), Some(*name));
    }
}
