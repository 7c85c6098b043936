use super::*;

const SMALL: u64 = 1024 * 1024;

#[test]
fn a_sparse_file_of_the_right_size_is_no_reserve() {
    let folder = tempfile::tempdir().unwrap();
    let reserve = Reserve::with_size(folder.path(), SMALL);
    File::create(folder.path().join(NAME)).unwrap().set_len(SMALL).unwrap();
    assert!(reserve.is_spent().unwrap());
    reserve.restore().unwrap();
    assert!(!reserve.is_spent().unwrap());
}

#[test]
fn a_reserve_that_does_not_fit_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    // Larger than any file system takes.
    let reserve = Reserve::with_size(folder.path(), u64::MAX / 4);
    assert!(reserve.restore().is_err());
    assert!(reserve.is_spent().unwrap());
    assert!(!folder.path().join(NAME).exists());
}

#[test]
fn a_link_in_its_place_is_replaced_and_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    std::fs::write(&victim, "kept").unwrap();
    std::os::unix::fs::symlink(&victim, folder.path().join(NAME)).unwrap();
    let reserve = Reserve::with_size(folder.path(), SMALL);
    assert!(reserve.is_spent().unwrap());
    reserve.restore().unwrap();
    assert_eq!(std::fs::read_to_string(victim).unwrap(), "kept");
}

#[test]
fn spending_frees_what_was_set_aside_and_restoring_takes_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let reserve = Reserve::new(folder.path());
    assert!(!reserve.spend().unwrap());
    reserve.restore().unwrap();
    let facts = std::fs::metadata(folder.path().join(NAME)).unwrap();
    assert!(facts.blocks() * 512 >= Reserve::SIZE, "{} blocks", facts.blocks());
    assert!(!reserve.is_spent().unwrap());
    assert!(reserve.spend().unwrap());
    assert!(reserve.is_spent().unwrap());
    reserve.restore().unwrap();
    assert!(!Reserve::new(folder.path()).is_spent().unwrap());
}

#[test]
fn where_blocks_can_not_be_asked_for_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    let file = File::create(&path).unwrap();
    fill(&file, 200_001).unwrap();
    file.sync_all().unwrap();
    let facts = std::fs::metadata(&path).unwrap();
    assert_eq!(facts.len(), 200_001);
    assert!(facts.blocks() * 512 >= 200_001);
}
