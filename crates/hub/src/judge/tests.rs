use super::*;
use allod_proto::{
    Digest, FaultCode,
    headers::HEAD_NAMESPACE,
    record::{Head, SignedHead},
    witness::{NAMESPACE, WitnessReport},
};
use allod_signing::{KeySigner, Signer as _, sshsig};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const NOW: Timestamp = Timestamp(1_800_000_000_000);

struct Server {
    identity: KeySigner,
    record: KeySigner,
}

fn server() -> Server {
    Server { identity: KeySigner::generate([1; 32], "id"), record: KeySigner::generate([2; 32], "record") }
}

impl Server {
    fn report(&self, seq: u64, line: &str, at: u64) -> WitnessReport {
        let head = Head { seq, hash: Digest::of(line) };
        let at = NOW.plus(std::time::Duration::from_millis(at));
        let sealed = self.record.sign(HEAD_NAMESPACE, &SignedHead::signed_bytes(&head, at)).unwrap();
        let mut report = WitnessReport {
            name: "web1".to_owned(),
            port: 9844,
            identity_key: self.identity.public_openssh(),
            record_key: self.record.public_openssh(),
            head: SignedHead { head, at, signature: sshsig::to_base64(&sealed) },
            succession: Vec::new(),
            at,
            signature: String::new(),
        };
        self.sign(&mut report);
        report
    }

    fn sign(&self, report: &mut WitnessReport) {
        let said = report.signed_bytes(&self.identity.fingerprint(), &self.record.fingerprint());
        report.signature = sshsig::to_base64(&self.identity.sign(NAMESPACE, &said).unwrap());
    }

    fn checked(&self, seq: u64, line: &str, at: u64) -> CheckedReport {
        CheckedReport::check(self.report(seq, line, at), NOW).unwrap()
    }
}

fn known(server: &Server) -> ServerRecord {
    ServerRecord::first(&server.checked(10, "ten", 0), HERE, NOW)
}

fn after(known: &ServerRecord, report: &CheckedReport) -> Judgement {
    judge(known, report, HERE, NOW).unwrap()
}

#[test]
fn a_report_that_somebody_changed_is_refused() {
    let server = server();
    let changes: [fn(&mut WitnessReport); 8] = [
        |report| report.name.push('x'),
        |report| report.port = 1,
        |report| report.at = Timestamp(report.at.0 + 1),
        |report| report.head.head.seq += 1,
        |report| report.head.at = Timestamp(report.head.at.0 + 1),
        |report| report.record_key = KeySigner::generate([9; 32], "").public_openssh(),
        |report| report.identity_key = KeySigner::generate([9; 32], "").public_openssh(),
        |report| report.signature = report.head.signature.clone(),
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut report = server.report(1, "one", 0);
        change(&mut report);
        let fault = CheckedReport::check(report, NOW).unwrap_err();
        assert_eq!(fault.code, FaultCode::Refused, "change {index}");
    }
}

#[test]
fn a_head_that_the_record_key_did_not_sign_is_refused_though_the_identity_signed_the_report() {
    let server = server();
    let mut report = server.report(1, "one", 0);
    report.head.head.seq = 2;
    server.sign(&mut report);
    assert_eq!(CheckedReport::check(report, NOW).unwrap_err().code, FaultCode::Refused);
}

#[test]
fn a_report_from_another_time_is_a_matter_of_clocks_only_when_it_is_genuine() {
    let server = server();
    let late = NOW.plus(std::time::Duration::from_secs(301));
    let report = server.report(1, "one", 0);
    assert_eq!(CheckedReport::check(report.clone(), late).unwrap_err().code, FaultCode::Clock);
    let forged = WitnessReport { port: 1, ..report.clone() };
    assert_eq!(CheckedReport::check(forged, late).unwrap_err().code, FaultCode::Refused);
    let unsound = WitnessReport { name: "a\nb".to_owned(), ..report };
    assert_eq!(CheckedReport::check(unsound, NOW).unwrap_err().code, FaultCode::Invalid);
}

#[test]
fn a_lower_head_is_marked_and_the_higher_one_kept() {
    let server = server();
    let before = known(&server);
    let judged = after(&before, &server.checked(9, "nine", 1));
    assert_eq!(judged.verdict, Verdict::GoneBack);
    assert!(judged.must_save);
    assert_eq!(judged.next.head, before.head);
    let trouble = judged.next.trouble.unwrap();
    assert_eq!((trouble.kept.head.seq, trouble.reported.head.seq), (10, 9));
}

#[test]
fn another_hash_at_the_same_height_is_a_fork() {
    let server = server();
    let judged = after(&known(&server), &server.checked(10, "other", 1));
    assert_eq!(judged.verdict, Verdict::Forked);
    assert!(judged.next.trouble.is_some());
}

#[test]
fn another_record_key_is_marked_though_its_head_is_higher() {
    let mut server = server();
    let before = known(&server);
    server.record = KeySigner::generate([3; 32], "new");
    let judged = after(&before, &server.checked(11, "eleven", 1));
    assert_eq!(judged.verdict, Verdict::RecordKeyChanged);
    assert_eq!(judged.next.record_key, before.record_key);
}

#[test]
fn an_old_report_sent_again_is_old_news_and_no_trouble() {
    let server = server();
    let old = server.checked(5, "five", 0);
    let known = after(&known(&server), &server.checked(11, "eleven", 2)).next;
    assert_eq!(judge(&known, &old, HERE, NOW), Err(OldNews::Overtaken));
    assert_eq!(judge(&known, &server.checked(11, "eleven", 2), HERE, NOW), Err(OldNews::Overtaken));
}

#[test]
fn a_marked_server_stays_marked_however_high_its_record_grows() {
    let server = server();
    let marked = after(&known(&server), &server.checked(9, "nine", 1)).next;
    let later = after(&marked, &server.checked(500, "high", 2));
    assert_eq!(later.verdict, Verdict::GoneBack);
    assert_eq!(later.next.head.head.seq, 10);
    assert_eq!(later.next.trouble.as_ref().unwrap().reported.head.seq, 500);
    assert!(later.must_save);
}

#[test]
fn after_the_acknowledgement_the_reported_head_counts_and_the_trouble_is_remembered() {
    let mut server = server();
    assert_eq!(known(&server).acknowledged(NOW), None);
    let before = known(&server);
    server.record = KeySigner::generate([3; 32], "new");
    let marked = after(&before, &server.checked(3, "three", 1)).next;
    let calm = marked.acknowledged(NOW).unwrap();
    assert_eq!(calm.past.len(), 1);
    assert_eq!(calm.past[0].acknowledged_at, Some(NOW));
    let judged = after(&calm, &server.checked(4, "four", 2));
    assert_eq!(judged.verdict, Verdict::Witnessed);
    assert_eq!(judged.next.trouble, None);
}

#[test]
fn the_same_head_again_needs_no_disk_and_a_higher_one_does() {
    let server = server();
    let same = after(&known(&server), &server.checked(10, "ten", 1));
    assert_eq!((same.verdict, same.must_save), (Verdict::Same, false));
    let higher = after(&same.next, &server.checked(11, "eleven", 2));
    assert_eq!((higher.verdict, higher.must_save), (Verdict::Witnessed, true));
    assert_eq!(higher.next.head.head.seq, 11);
}
