//! The conversation with a worker, played by small programs.

use std::sync::Mutex;

use super::*;
use crate::model::resource::{BuildSpec, VolumeFormat};

fn request() -> BuildRequest {
    let spec = BuildSpec {
        suite: "bookworm".into(),
        mirror: None,
        components: vec!["main".into()],
        packages: Vec::new(),
        kernel: "linux-image-cloud-amd64".into(),
        files: Default::default(),
        users: Default::default(),
        cloud_init: false,
        boot_check: None,
    };
    let image = "/pool/image-debian-0123456789ab.qcow2".into();
    BuildRequest::new(&spec, VolumeFormat::Qcow2, None, image)
}

/// What comes of a worker that runs `script`, and the stages it told.
fn played(script: &str) -> (Result<Facts, Fault>, Vec<String>) {
    let argv = ["sh", "-c", script].map(OsString::from);
    let stages = Mutex::new(Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = |stage: &str| stages.lock().unwrap().push(stage.to_owned());
    let answer = runtime.block_on(run(&argv, &request(), told));
    (answer, stages.into_inner().unwrap())
}

#[test]
fn stages_are_told_and_the_facts_come_back() {
    let (answer, stages) = played(
        r#"read line; echo "$line" | grep -q bookworm || exit 1
        echo '{"type":"stage","data":"installing packages"}'
        echo '{"type":"built","data":{"bytes":"7"}}'
        cat >/dev/null"#,
    );
    assert_eq!(answer.unwrap(), Facts::from([("bytes".to_owned(), "7".to_owned())]));
    assert_eq!(stages, ["installing packages"]);
}

#[test]
fn a_workers_fault_is_the_steps_fault() {
    let (answer, _) = played(
        r#"read line
        echo '{"type":"failed","data":{"kind":"permanent","detail":{"message":"no such suite"}}}'"#,
    );
    assert_eq!(answer, Err(Fault::permanent("no such suite")));
}

#[test]
fn a_unit_that_never_starts_says_why() {
    let (answer, _) = played("echo 'Failed to connect to bus' >&2; exit 1");
    let Err(Fault::Transient { message }) = answer else { panic!("{answer:?}") };
    assert!(message.contains("Failed to connect to bus") && message.contains("D-Bus"), "{message}");
}

#[test]
fn a_build_that_is_given_up_closes_the_workers_input() {
    let dir = tempfile::tempdir().unwrap();
    let (begun, ended) = (dir.path().join("begun"), dir.path().join("ended"));
    // In a session of its own, out of reach of what ends `systemd-run`: as a unit's worker is. A
    // shell gives what it starts with `&` no stdin, so it gets it as another descriptor.
    let script = format!(
        "exec 3<&0
        setsid sh -c 'read line <&3; touch {}; cat <&3 >/dev/null; touch {}' 2>/dev/null &
        exec 3<&-; exec sleep 1000",
        begun.display(),
        ended.display()
    );
    let argv = ["sh", "-c", &script].map(OsString::from);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let request = request();
        let building = run(&argv, &request, |_| {});
        tokio::select! {
            answer = building => panic!("{answer:?}"),
            () = there(&begun) => {}
        }
        there(&ended).await;
    });
}

async fn there(path: &Path) {
    for _ in 0..500 {
        if path.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} never came", path.display());
}

#[test]
fn the_unit_may_write_to_the_images_folder_only() {
    let argv = unit_argv(Path::new("/usr/local/bin/trueup"), &request().image, "7-1").unwrap();
    let argv: Vec<_> = argv.iter().map(|arg| arg.to_str().unwrap()).collect();
    assert!(argv.contains(&"--unit=trueup-image-build-image-debian-0123456789ab-7-1.service"));
    let writes: Vec<_> = argv.iter().filter(|arg| arg.contains("ReadWritePaths")).collect();
    assert_eq!(writes, [&"--property=ReadWritePaths=\"/pool\""]);
    assert_eq!(argv[argv.len() - 3..], ["--", "/usr/local/bin/trueup", "image-build"]);
}

#[test]
fn a_folder_is_one_word_or_refused() {
    assert_eq!(quoted(Path::new(r#"/a "b" \c"#)).unwrap(), r#""/a \"b\" \\c""#);
    assert!(quoted(Path::new("/a\nExecStart=/bin/sh")).is_err());
    assert!(quoted(Path::new("relative")).is_err());
}

#[test]
fn systemd_knows_every_property() {
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("trueup-image-build-x.service");
    let lines = PROPERTIES.join("\n");
    let text = format!("[Service]\nExecStart=/bin/true\n{lines}\nReadWritePaths=\"/a b\"\n");
    std::fs::write(&unit, text).unwrap();
    let out = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&unit)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    let ours: Vec<_> = said.lines().filter(|line| line.contains("image-build-x")).collect();
    assert!(ours.is_empty() && !said.contains("Failed to parse"), "{said}");
}
