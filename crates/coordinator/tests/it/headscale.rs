//! Nodes of ours and stock clients on a real Headscale, where there is one: on the path, or in the folder `ALLOD_PEERS`.

use crate::{
    nodes::on_the_mesh,
    pairs::{Node, all_are, all_go_on, end, talks},
    stock::lab,
};
use allod_meshnode::{
    Interfaces, Member, MemberSettings,
    control::{ControlSettings, Trust},
};
use allod_proto::Timestamp;
use allod_testkit::{
    headscale::Headscale,
    lab::{Host, Router, random},
};
use std::{sync::Arc, time::SystemTime};

async fn join(headscale: &Headscale, name: &str, host: &Host) -> Member {
    let control = ControlSettings {
        urls: vec![headscale.url.clone()],
        trust: Trust::FirstUse,
        tls: Some(Arc::clone(&headscale.certificate.client)),
        hostname: name.to_owned(),
        join_key: Some(headscale.key.clone().into()),
        ephemeral: false,
    };
    let settings = MemberSettings {
        folder: headscale.folder.path().join(name),
        control,
        interfaces: Interfaces::System,
        random: random(),
        clock: Arc::new(now),
    };
    let member = host.run(async move { Member::open(settings).unwrap() }).await;
    on_the_mesh(&member).await;
    member
}

#[expect(clippy::disallowed_methods, reason = "beside a real Headscale the time is the real one")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(since.as_millis()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_real_headscale_every_pair_of_ours_and_stock_talks_directly_relayed_and_directly_again() {
    let (Some(program), Some(mut lab)) = (Headscale::program(), lab()) else { return };
    let hosts = [81, 82, 83, 84].map(|site| lab.host(site, Router::Mild));
    let headscale = Headscale::start(program, &lab);
    let [a, b, c, d] = &hosts;
    let joining = (headscale.url.as_str(), headscale.key.as_str());
    let nodes = [
        Node::member("ours-a", join(&headscale, "ours-a", a).await),
        Node::member("ours-b", join(&headscale, "ours-b", b).await),
        Node::client("stock-c", c, &headscale.folder, joining).await,
        Node::client("stock-d", d, &headscale.folder, joining).await,
    ];
    let talks = talks(&nodes).await;
    all_are(&nodes, true, "on Headscale").await;
    lab.cut("meta l4proto udp");
    all_go_on(&talks, "UDP cut").await;
    all_are(&nodes, false, "UDP cut").await;
    lab.mend();
    all_are(&nodes, true, "UDP back").await;
    end(talks).await;
}
