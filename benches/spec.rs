//! Cost of reading a repository, as ratios within one run: cold against the YAML parser alone, warm
//! (one file changed) against cold, and the exponent of growth.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark measures and prints"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use trueup::model::Digest;
use trueup::spec::{ParseCache, RepoFile, RepoFiles, Select, load};

/// Documents of the main measurement.
const DOCUMENTS: usize = 5_000;
/// Runs of each measurement; the best counts.
const RUNS: usize = 5;

fn file(path: &str, text: &str) -> RepoFile {
    RepoFile::new(path, Digest::of(text).to_string(), text.as_bytes())
}

/// `documents` documents, one a file: networks, images, disks and machines that use them.
fn repository(documents: usize, changed: &str) -> RepoFiles {
    let mut files = vec![file(
        "trueup.yaml",
        "apiVersion: trueup/v1\nkind: Repository\nmetadata: { name: bench }\nspec: { environments: { lab: { hosts: [here] } } }\n",
    )];
    for n in 0..documents / 5 {
        let (a, b) = (n / 250, n % 250);
        let put = |files: &mut Vec<RepoFile>, kind: &str, name: &str, spec: &str| {
            let text = format!(
                "# One of many.\napiVersion: trueup/v1\nkind: {kind}\nmetadata:\n  name: {name}\n  labels:\n    role: bench\n    number: \"{n}\"\n    changed: \"{changed}\"\n  annotations:\n    owner: somebody@example.com\nspec:\n{spec}"
            );
            let text =
                if n == 0 && kind == "VirtualMachine" { text } else { text.replace(changed, "") };
            files.push(file(&format!("environments/lab/{kind}-{name}.yaml"), &text));
        };
        put(
            &mut files,
            "Network",
            &format!("net{n}"),
            &format!(
                "  mode: nat\n  cidr: 10.{a}.{b}.0/24\n  dhcp:\n    start: 10.{a}.{b}.100\n    end: 10.{a}.{b}.199\n  domain:\n    name: lab{n}.internal\n    localOnly: true\n"
            ),
        );
        put(
            &mut files,
            "Image",
            &format!("image{n}"),
            "  size: 2GiB\n  build:\n    suite: bookworm\n    packages:\n      - openssh-server\n      - qemu-guest-agent\n      - curl\n    users:\n      admin:\n        sudo: true\n",
        );
        put(
            &mut files,
            "Disk",
            &format!("root{n}"),
            &format!("  size: 20GiB\n  image: image{n}\n  onImageChange: keep\n"),
        );
        put(&mut files, "Disk", &format!("data{n}"), "  size: 100GiB\n  format: raw\n");
        put(
            &mut files,
            "VirtualMachine",
            &format!("vm{n}"),
            &format!(
                "  machine: q35\n  cpus:\n    count: 2\n    max: 4\n    mode: host-model\n  memory: 2GiB\n  disks:\n    - disk: root{n}\n    - disk: data{n}\n  nics:\n    - network: net{n}\n      address: 10.{a}.{b}.10\n  cloudInit:\n    userData:\n      packages: [nginx, jq]\n  consoleLog: true\n  guestAgent: true\n  stop:\n    timeout: 90s\n    force: true\n  readiness:\n    tcp:\n      port: 22\n    timeout: 10m\n"
            ),
        );
    }
    RepoFiles { files }
}

fn best(mut run: impl FnMut() -> Duration) -> Duration {
    (0..RUNS).map(|_| run()).min().unwrap_or_default()
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn parser_alone(repo: &RepoFiles) -> Duration {
    best(|| {
        timed(|| {
            for file in &repo.files {
                let text = std::str::from_utf8(file.bytes.as_deref().unwrap_or_default());
                let value = serde_saphyr::from_str::<serde_json::Value>(text.unwrap_or_default());
                assert!(black_box(value).is_ok());
            }
        })
    })
}

fn cold(repo: &RepoFiles, select: &Select) -> Duration {
    best(|| {
        let mut cache = ParseCache::new();
        timed(|| assert!(black_box(load(repo, select, &mut cache)).is_ok()))
    })
}

fn main() {
    let select = Select::Host("here".to_owned());
    let one = repository(DOCUMENTS, "first");
    let two = repository(DOCUMENTS, "second");
    let parser = parser_alone(&one);
    let cold_time = cold(&one, &select);
    let warm = best(|| {
        // A cache that knows one of the two commits would make the change free: it is made anew.
        let mut cache = ParseCache::new();
        assert!(load(&one, &select, &mut cache).is_ok());
        timed(|| assert!(black_box(load(&two, &select, &mut cache)).is_ok()))
    });
    let small = cold(&repository(DOCUMENTS / 10, "first"), &select);
    let exponent = (cold_time.as_secs_f64() / small.as_secs_f64()).log10();
    let bytes: usize = one.files.iter().filter_map(|f| f.bytes.as_ref()).map(|b| b.len()).sum();
    println!("spec: {DOCUMENTS} documents, {bytes} bytes");
    println!("  YAML parser alone      {parser:>10.1?}");
    println!(
        "  cold                   {cold_time:>10.1?}  {:.2} of the parser (target 1.50)",
        cold_time.as_secs_f64() / parser.as_secs_f64()
    );
    println!(
        "  warm, one file changed {warm:>10.1?}  {:.1} % of cold (target 5.0)",
        100.0 * warm.as_secs_f64() / cold_time.as_secs_f64()
    );
    println!(
        "  growth exponent        {exponent:>10.2}  from {} to {DOCUMENTS} documents",
        DOCUMENTS / 10
    );
}
