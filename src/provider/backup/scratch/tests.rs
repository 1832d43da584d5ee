//! Folders and machines of drills: what is left of them, and who removes it.

use super::*;

fn setup(at: &Path) -> BackupSetup {
    BackupSetup {
        program: "trueup".into(),
        folder: at.join("backup"),
        scratch: at.join("scratch"),
        scratch_of_guests: at.join("guests"),
        host: "node1".into(),
        programs: Vec::new(),
        own: super::super::OwnPlaces {
            state: at.to_owned(),
            log: at.join("log"),
            config: None,
            mirror: at.join("mirror"),
        },
        secrets: Arc::new(|_| Ok(String::new())),
        secrets_folder: at.join("secrets"),
        prove_log: Arc::new(|_| Ok(String::new())),
    }
}

#[test]
fn what_a_drill_left_is_removed_unless_it_is_at_work_or_not_ours() {
    let host = tempfile::tempdir().unwrap();
    let setup = setup(host.path());
    sweep(&setup).unwrap();
    let name = Name::new("etc").unwrap();
    let mut work = Scratch::take(&setup, &name, None).unwrap().unwrap();
    assert!(work.free().unwrap() > 0);
    fs::create_dir_all(work.folder.join("etc/deep")).unwrap();
    let other = setup.scratch.join("somebody's");
    fs::create_dir(&other).unwrap();
    let left = setup.scratch.join("trueup-drill-old");
    fs::create_dir_all(left.join("etc")).unwrap();
    sweep(&setup).unwrap();
    assert!(work.folder.join("etc/deep").is_dir() && other.is_dir() && !left.exists());
    assert!(Scratch::take(&setup, &name, None).unwrap().is_none(), "one at a time");
    let folder = work.folder.clone();
    // As a kill leaves it.
    work.lock = None;
    let mut work = Scratch::take(&setup, &name, None).unwrap().unwrap();
    assert!(!folder.join("etc").exists(), "it begins empty");
    work.lock = None;
    sweep(&setup).unwrap();
    assert!(!folder.exists());
}

/// As after a kill: of a drill that booted something there are a note and a folder.
fn left(setup: &BackupSetup, name: &str) -> PathBuf {
    let name = Name::new(name).unwrap();
    let turn = Arc::new(tokio::sync::Mutex::new(())).try_lock_owned().unwrap();
    let mut work = Scratch::take(setup, &name, Some(turn)).unwrap().unwrap();
    work.lock.as_mut().unwrap().write_all(BOOTED).unwrap();
    work.lock = None;
    work.folder.clone()
}

#[tokio::test(start_paused = true)]
async fn a_look_waits_a_while_for_what_was_left_and_leaves_it_to_nobody() {
    let host = tempfile::tempdir().unwrap();
    let setup = setup(host.path());
    let folder = left(&setup, "web");
    let (fake, guests) = super::super::held::tests::guests();
    let provider = BackupProvider::new(setup).with_guests(guests);
    // libvirt hangs, and the look that began it is cut off.
    assert!(timeout(Duration::from_secs(1), provider.sweep()).await.is_err());
    for _ in 0..2 {
        let look = timeout(2 * SWEEP_WAIT, provider.sweep());
        look.await.expect("the next look does not wait for ever");
    }
    assert!(folder.is_dir());
    fake.may_end.add_permits(1);
    provider.closing.wait().await;
    assert!(!folder.exists() && booted(&provider.setup).unwrap().is_empty());
    assert!(*provider.swept.lock().await);
}

#[tokio::test]
async fn a_drill_boots_once_nothing_of_the_one_before_is_left() {
    let host = tempfile::tempdir().unwrap();
    let setup = setup(host.path());
    let (fake, guests) = super::super::held::tests::guests();
    let provider = BackupProvider::new(setup.clone()).with_guests(Arc::clone(&guests));
    let told: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&told);
    let progress: crate::port::Progress =
        Arc::new(move |update| heard.lock().unwrap().push(update.what));
    let turn = provider.turn_to_boot(&progress).await;
    assert!(told.lock().unwrap().is_empty());
    let name = Name::new("web").unwrap();
    let mut work = Scratch::take(&setup, &name, Some(turn)).unwrap().unwrap();
    work.boots_now(&guests, &name, &provider).unwrap();
    let folder = work.folder.clone();
    let mut next = Box::pin(provider.turn_to_boot(&progress));
    let a_moment = Duration::from_millis(50);
    assert!(timeout(a_moment, &mut next).await.is_err());
    assert_eq!(*told.lock().unwrap(), ["waiting for another drill, which boots a machine"]);
    // Given up: its machine is still being ended.
    drop(work);
    assert!(timeout(a_moment, &mut next).await.is_err());
    assert!(folder.is_dir());
    fake.may_end.add_permits(1);
    let _turn = next.await;
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_machine_that_does_not_end_is_ended_by_a_later_look_and_keeps_its_files_until_then() {
    let host = tempfile::tempdir().unwrap();
    let setup = setup(host.path());
    let (fake, guests) = super::super::held::tests::guests();
    let provider = BackupProvider::new(setup.clone()).with_guests(Arc::clone(&guests));
    provider.sweep().await;
    assert!(*provider.swept.lock().await, "nothing was left");
    let progress: crate::port::Progress = Arc::new(|_| ());
    let turn = provider.turn_to_boot(&progress).await;
    let name = Name::new("web").unwrap();
    let mut work = Scratch::take(&setup, &name, Some(turn)).unwrap().unwrap();
    work.boots_now(&guests, &name, &provider).unwrap();
    let folder = work.folder.clone();
    fake.may_not_end(true);
    drop(work);
    provider.closing.wait().await;
    assert!(folder.is_dir());
    // Looks go on, and so does the machine.
    provider.sweep().await;
    provider.closing.wait().await;
    assert!(folder.is_dir() && !*provider.swept.lock().await);
    fake.may_not_end(false);
    fake.may_end.add_permits(1);
    provider.sweep().await;
    provider.closing.wait().await;
    assert!(!folder.exists() && *provider.swept.lock().await);
    let _turn = provider.turn_to_boot(&progress).await;
}

#[test]
fn what_a_drill_booted_is_known_to_the_next_process_by_its_note() {
    let host = tempfile::tempdir().unwrap();
    let setup = setup(host.path());
    let turn = Arc::new(tokio::sync::Mutex::new(())).try_lock_owned().unwrap();
    let name = Name::new("web").unwrap();
    assert!(booted(&setup).unwrap().is_empty());
    let mut work = Scratch::take(&setup, &name, Some(turn)).unwrap().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&setup.scratch_of_guests), mode(&work.folder)), (0o711, 0o700));
    work.lock.as_mut().unwrap().write_all(BOOTED).unwrap();
    assert!(booted(&setup).unwrap().is_empty(), "it is at work");
    // As a kill leaves it.
    work.lock = None;
    let found = booted(&setup).unwrap();
    assert_eq!(found[0].0, name);
    found[0].1.set_len(0).unwrap();
    drop(found);
    assert!(booted(&setup).unwrap().is_empty());
    sweep(&setup).unwrap();
    assert!(!work.folder.exists());
}
