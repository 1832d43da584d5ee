//! A repository of thousands of documents: networks, images, disks and machines that use them.

/// `trueup.yaml`: one environment, for the host `here`.
pub const TRUEUP: &str = "apiVersion: trueup/v1\nkind: Repository\nmetadata: { name: bench }\nspec: { environments: { lab: { hosts: [here] } } }\n";

/// The path of the file that [`documents`] writes `changed` into.
pub const CHANGED: &str = "environments/lab/VirtualMachine-vm0.yaml";

/// `count` documents, one a file: path and text. `changed` is a label of one of them.
pub fn documents(count: usize, changed: &str) -> Vec<(String, String)> {
    let mut files = vec![("trueup.yaml".to_owned(), TRUEUP.to_owned())];
    for n in 0..count / 5 {
        for (kind, name, spec) in group(n) {
            let label = if n == 0 && kind == "VirtualMachine" { changed } else { "" };
            let text = document(kind, &name, n, label, &spec);
            files.push((format!("environments/lab/{kind}-{name}.yaml"), text));
        }
    }
    files
}

fn document(kind: &str, name: &str, n: usize, changed: &str, spec: &str) -> String {
    format!(
        "# One of many.\napiVersion: trueup/v1\nkind: {kind}\nmetadata:\n  name: {name}\n  labels:\n    role: bench\n    number: \"{n}\"\n    changed: \"{changed}\"\n  annotations:\n    owner: somebody@example.com\nspec:\n{spec}"
    )
}

fn group(n: usize) -> [(&'static str, String, String); 5] {
    let (a, b) = (n / 250, n % 250);
    let network = format!(
        "  mode: nat\n  cidr: 10.{a}.{b}.0/24\n  dhcp:\n    start: 10.{a}.{b}.100\n    end: 10.{a}.{b}.199\n  domain:\n    name: lab{n}.internal\n    localOnly: true\n"
    );
    let image = "  size: 2GiB\n  build:\n    suite: bookworm\n    packages:\n      - openssh-server\n      - qemu-guest-agent\n      - curl\n    users:\n      admin:\n        sudo: true\n";
    let root = format!("  size: 20GiB\n  image: image{n}\n  onImageChange: keep\n");
    let data = "  size: 100GiB\n  format: raw\n";
    let machine = format!(
        "  machine: q35\n  cpus:\n    count: 2\n    max: 4\n    mode: host-model\n  memory: 2GiB\n  disks:\n    - disk: root{n}\n    - disk: data{n}\n  nics:\n    - network: net{n}\n      address: 10.{a}.{b}.10\n  cloudInit:\n    userData:\n      packages: [nginx, jq]\n  consoleLog: true\n  guestAgent: true\n  stop:\n    timeout: 90s\n    force: true\n  readiness:\n    tcp:\n      port: 22\n    timeout: 10m\n"
    );
    [
        ("Network", format!("net{n}"), network),
        ("Image", format!("image{n}"), image.to_owned()),
        ("Disk", format!("root{n}"), root),
        ("Disk", format!("data{n}"), data.to_owned()),
        ("VirtualMachine", format!("vm{n}"), machine),
    ]
}

/// `count` networks, one a file, and a storage pool in `pool`.
pub fn networks(count: usize, pool: &str) -> Vec<(String, String)> {
    let settings = format!(
        "apiVersion: trueup/v1\nkind: Environment\nmetadata: {{ name: lab }}\nspec:\n  storagePools:\n    - name: main\n      path: {pool}\n"
    );
    let mut files = vec![
        ("trueup.yaml".to_owned(), TRUEUP.to_owned()),
        ("environments/lab/environment.yaml".to_owned(), settings),
    ];
    for n in 0..count {
        let (a, b) = (n / 250, n % 250);
        let text = format!(
            "apiVersion: trueup/v1\nkind: Network\nmetadata:\n  name: net{n}\nspec:\n  mode: nat\n  cidr: 10.{a}.{b}.0/24\n  bridge: br{n}\n  dhcp:\n    start: 10.{a}.{b}.100\n    end: 10.{a}.{b}.199\n"
        );
        files.push((format!("environments/lab/net{n}.yaml"), text));
    }
    files
}

/// About `count` resources as on a host of virtual machines: for every machine, which is off, a
/// disk, and a network for every fifty of them; a storage pool in `pool`.
pub fn mixed(count: usize, pool: &str) -> Vec<(String, String)> {
    let mut files = networks(0, pool);
    let groups = count / 101;
    for group in 0..groups {
        let network =
            format!("  mode: isolated\n  cidr: 10.77.{group}.0/24\n  bridge: trub{group}\n");
        files.push(one("Network", &format!("net{group}"), group, &network));
        for n in group * 50..(group + 1) * 50 {
            files.push(one("Disk", &format!("disk{n}"), n, "  size: 1MiB\n  format: raw\n"));
            let machine = format!(
                "  machine: q35\n  cpus:\n    count: 2\n    max: 4\n  memory: 2GiB\n  autostart: false\n  power: off\n  disks:\n    - disk: disk{n}\n  nics:\n    - network: net{group}\n  guestAgent: true\n"
            );
            files.push(one("VirtualMachine", &format!("vm{n}"), n, &machine));
        }
    }
    for n in 0..count - groups * 101 {
        files.push(one("Disk", &format!("spare{n}"), n, "  size: 1MiB\n  format: raw\n"));
    }
    files
}

fn one(kind: &str, name: &str, n: usize, spec: &str) -> (String, String) {
    (format!("environments/lab/{kind}-{name}.yaml"), document(kind, name, n, "", spec))
}
