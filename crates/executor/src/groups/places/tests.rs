use super::*;
use proptest::prelude::*;

const V2: &str = "0::/system.slice/allod.service\n";
const V2_MOUNT: &str = "29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
const HYBRID: &str = "9:name=systemd:/\n8:pids:/\n6:freezer:/\n4:memory:/boxes/one\n3:cpu,cpuacct:/\n0::/\n";
const HYBRID_MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

/// Controllers, mount point and own group of each, in words.
fn shown(cgroup: &str, mountinfo: &str) -> Vec<String> {
    let place = |place: Place| {
        assert_eq!(place.version == Version::Two, place.controllers.is_empty());
        let (mount, own) = (place.mount.display(), place.own.display());
        format!("{}@{mount}:{own}", place.controllers.join("+"))
    };
    parse(cgroup.as_bytes(), mountinfo.as_bytes()).into_iter().map(place).collect()
}

#[test]
fn where_there_are_none_none_are_found() {
    let nothing: [(&str, &str); 6] = [
        ("", ""),
        (V2, ""),
        ("", V2_MOUNT),
        (V2, "29 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"),
        ("4:memory:/\n", V2_MOUNT),
        (V2, "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"),
    ];
    for (cgroup, mountinfo) in nothing {
        assert_eq!(shown(cgroup, mountinfo), [""; 0], "{cgroup:?} {mountinfo:?}");
    }
}

#[test]
fn hostile_lines_are_passed_over_and_the_others_hold() {
    let cgroups = [
        "0:/x",
        "0::",
        "0::relative",
        "0::/../../elsewhere",
        "0::/a/../b",
        "0::/gone (deleted)",
        "x::/a",
        "-1::/a",
        "0:memory:/a",
        "5::/a",
        "99999999999999999999::/a",
        "0::/a\0b",
        ":::::",
    ];
    for line in cgroups {
        assert_eq!(shown(&format!("{line}\n{V2}"), V2_MOUNT).len(), 1, "{line:?}");
        assert_eq!(shown(line, V2_MOUNT), [""; 0], "{line:?}");
    }
    let mounts = [
        "29 23 0:26 / /sys/fs/cgroup rw cgroup2 cgroup2 rw",
        "29 23 0:26 / /sys/fs/cgroup rw - cgroup2",
        "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2",
        "29 23 0:26 / relative rw - cgroup2 cgroup2 rw",
        "29 23 0:26 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
        "29 23 0:26 / /sys/../etc rw - cgroup2 cgroup2 rw",
        "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2",
        "a b c d e f - cgroup2 g rw",
        "29 23 0:26 / /sys/fs/cgroup rw - cgroup3 cgroup2 rw",
    ];
    for line in mounts {
        assert_eq!(shown(V2, line), [""; 0], "{line:?}");
        assert_eq!(shown(V2, &format!("{line}\n{V2_MOUNT}")).len(), 1, "{line:?}");
    }
}

#[test]
fn a_group_that_the_mount_does_not_show_is_not_used() {
    let bound = "29 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
    assert_eq!(shown("0::/docker/abcd\n", bound), [""; 0], "a name that only begins alike");
    assert_eq!(shown("0::/\n", bound), [""; 0]);
}

#[test]
fn version_two_alone() {
    assert_eq!(shown(V2, V2_MOUNT), ["@/sys/fs/cgroup:system.slice/allod.service"]);
}

#[test]
fn version_one_and_both_at_once() {
    let found = [
        "name=systemd@/sys/fs/cgroup/systemd:",
        "pids@/sys/fs/cgroup/pids:",
        "freezer@/sys/fs/cgroup/freezer:",
        "memory@/sys/fs/cgroup/memory:boxes/one",
        "cpu+cpuacct@/sys/fs/cgroup/cpu,cpuacct:",
        "@/sys/fs/cgroup/unified:",
    ];
    assert_eq!(shown(HYBRID, HYBRID_MOUNTS), found);
    let one: String = HYBRID
        .lines()
        .filter(|line| !line.starts_with("0:"))
        .fold(String::new(), |all, line| all + line + "\n");
    assert_eq!(shown(&one, HYBRID_MOUNTS), found[..5]);
}

#[test]
fn in_a_container_its_own_group_is_where_the_mount_begins() {
    let old = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
    assert_eq!(shown("4:memory:/docker/abc\n", old), ["memory@/sys/fs/cgroup/memory:"]);
    assert_eq!(shown("4:memory:/docker/abc/in\n", old), ["memory@/sys/fs/cgroup/memory:in"]);
    assert_eq!(shown("0::/\n", V2_MOUNT), ["@/sys/fs/cgroup:"], "with a namespace");
}

#[test]
fn colons_spaces_and_bytes_that_are_no_text_are_names_like_others() {
    let spaced = "29 23 0:26 / /mnt/my\\040groups\\134x rw - cgroup2 cgroup2 rw\n";
    assert_eq!(shown("0::/a:b\n", spaced), ["@/mnt/my groups\\x:a:b"]);
    let places = parse(b"0::/\xff\xfe\n", V2_MOUNT.as_bytes());
    assert_eq!(places[0].own.as_os_str().as_bytes(), b"\xff\xfe");
    assert_eq!(unescape(b"\\04\\999\\777"), b"\\04\\999\\777", "what is no escape stays");
}

#[test]
fn of_several_mounts_the_last_that_shows_the_group_is_taken() {
    let twice = format!(
        "{V2_MOUNT}50 23 0:26 / /other rw - cgroup2 cgroup2 rw\n51 23 0:26 /else /third rw - cgroup2 cgroup2 rw\n"
    );
    assert_eq!(shown(V2, &twice), ["@/other:system.slice/allod.service"]);
}

#[test]
fn a_configured_path_is_below_the_mount_and_leads_nowhere_else() {
    for bad in ["", "allod", "/a/../..", "..", "/x (deleted)"] {
        assert_eq!(below_mount(Path::new(bad)), None, "{bad:?}");
    }
    assert_eq!(below_mount(Path::new("/machine/allod")), Some(PathBuf::from("machine/allod")));
    assert_eq!(below_mount(Path::new("/")), Some(PathBuf::new()));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_none_lead_out_of_the_mount(
        cgroup in proptest::collection::vec(any::<u8>(), 0..200),
        mountinfo in proptest::collection::vec(any::<u8>(), 0..200),
        path in "[/.a ]{0,12}",
        root in "[/.a]{0,6}",
    ) {
        parse(&cgroup, &mountinfo);
        let mounts = format!("1 2 0:1 {root} /m rw - cgroup2 x rw\n");
        for place in parse(format!("0::{path}\n").as_bytes(), mounts.as_bytes()) {
            prop_assert!(place.own.components().all(|part| matches!(part, Component::Normal(_))));
        }
    }
}
