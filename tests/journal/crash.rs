//! `kill -9` of a process that appends: nothing acknowledged is lost.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use trueup::journal::{Journal, verify};

use super::{draft, now, read_all, small};

const STATE: &str = "TRUEUP_TEST_APPEND_TO";

/// Not a test of its own: what the test below starts and kills.
#[test]
fn child_appends_until_killed() {
    let Some(dir) = std::env::var_os(STATE).map(PathBuf::from) else { return };
    let (journal, opened) = Journal::open(&dir, &small()).unwrap();
    let one = |start: u64| {
        let journal = journal.clone();
        move || {
            for number in start.. {
                let sealed = journal.append(now(), vec![draft(number), draft(number)]).unwrap();
                println!("acked {} {}", sealed[1].seq, sealed[1].hash);
            }
        }
    };
    let other = std::thread::spawn(one(1_000_000));
    one(opened.last_seq)();
    other.join().unwrap();
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "journal::crash::child_appends_until_killed", "--nocapture"])
            .env(STATE, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut acked = Vec::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = 5 + round * 7;
        for line in lines.by_ref() {
            let line = line.unwrap();
            // The harness's own words may stand on the same line.
            let Some((_, ack)) = line.split_once("acked ") else { continue };
            let (seq, hash) = ack.split_once(' ').unwrap();
            acked.push((seq.parse::<u64>().unwrap(), hash.to_owned()));
            if acked.len() == wanted {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(acked.len(), wanted, "the child worked");
        for line in lines.map_while(Result::ok) {
            if let Some((seq, hash)) =
                line.strip_prefix("acked ").and_then(|ack| ack.split_once(' '))
                && hash.len() == 64
            {
                acked.push((seq.parse().unwrap(), hash.to_owned()));
            }
        }
        let (journal, opened) = Journal::open(dir.path(), &small()).unwrap();
        assert_eq!(opened.epoch, round as u64 * 2 + 2);
        drop(journal);
        let report = verify(dir.path()).unwrap();
        let mut cursor = trueup::journal::Reader::open(dir.path()).from(1).unwrap();
        let mut hashes = Vec::new();
        while let Some(line) = cursor.read().unwrap() {
            hashes.push(line.record.hash.to_string());
        }
        assert_eq!(hashes.len() as u64, report.events);
        for (seq, hash) in acked {
            assert!(seq > last, "the log only grows");
            assert_eq!(hashes.get(seq as usize - 1), Some(&hash), "acknowledged event {seq}");
        }
        last = report.events;
    }
    assert_eq!(read_all(dir.path()).unwrap().len() as u64, last);
}
