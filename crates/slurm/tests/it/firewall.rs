//! Rules in a kernel: who gets through to which port of a machine, and who does not.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use trueup_slurm::wish::{Accounting, Cluster, Database, Host};
use trueup_slurm::{Firewall, Opening, Protocol};

use crate::lab::possible;

const NEEDS: &[&str] = &["nft", "ip", "python3", "setpriv", "nsenter"];

/// Addresses: the machine, another of its cluster, the login machine, and a neighbour of nobody's.
const OWN: &str = "10.9.0.10";
const MEMBER: &str = "10.9.0.11";
const LOGIN: &str = "10.9.0.12";
const STRANGER: &str = "10.9.0.99";
/// Something listens on each of them.
const PORTS: [u16; 8] = [22, 111, 3306, 6817, 6818, 6819, 9100, 61_000];

/// A network of two machines, which is gone with it.
struct Wire {
    own: Child,
    other: Child,
    listener: Option<Child>,
}

fn alone() -> Child {
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--net", "--"])
        .args(["sh", "-c", "ip link set lo up && echo ready && exec sleep 1000"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn within(machine: &Child, argv: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{}/ns/net", machine.id())).arg("--").args(argv);
    command
}

#[track_caller]
fn ok(mut command: Command) -> String {
    let said = command.output().unwrap();
    assert!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap()
}

impl Wire {
    fn new() -> Self {
        let (own, other) = (alone(), alone());
        let peer = other.id().to_string();
        ok(within(
            &own,
            &["ip", "link", "add", "e0", "type", "veth", "peer", "e0", "netns", &peer],
        ));
        let addresses = [(&own, OWN), (&other, MEMBER), (&other, LOGIN), (&other, STRANGER)];
        for (machine, address) in addresses {
            let address = format!("{address}/24");
            ok(within(machine, &["ip", "address", "add", &address, "dev", "e0"]));
            ok(within(machine, &["ip", "link", "set", "e0", "up"]));
        }
        let mut wire = Self { own, other, listener: None };
        wire.listen();
        wire
    }

    fn listen(&mut self) {
        let script = "import socket, sys, time\n\
                      held = [socket.create_server(('', int(p))) for p in sys.argv[1:]]\n\
                      print('ready', flush=True)\ntime.sleep(1000)";
        let ports = PORTS.map(|port| port.to_string());
        let mut argv = vec!["setpriv", "--pdeathsig", "KILL", "python3", "-c", script];
        argv.extend(ports.iter().map(String::as_str));
        let mut child = within(&self.own, &argv).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        self.listener = Some(child);
    }

    /// Loads rules as the service of a machine does.
    fn load(&self, rules: &str) {
        let mut nft = within(&self.own, &["nft", "-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "{rules}");
    }

    fn listed(&self) -> String {
        ok(within(&self.own, &["nft", "-s", "list", "table", "inet", Firewall::TABLE]))
    }

    /// The ports that are open to somebody.
    fn open_to(&self, address: &str) -> Vec<u16> {
        // All at once: what is closed says nothing, and is waited for.
        let script = "import socket, sys, threading\n\
                      found = []\n\
                      def attempt(port):\n\
                      \ttry:\n\
                      \t\tsocket.create_connection((sys.argv[1], port), 2, (sys.argv[2], 0)).close()\n\
                      \t\tfound.append(port)\n\
                      \texcept TimeoutError:\n\
                      \t\tpass\n\
                      all = [threading.Thread(target=attempt, args=(int(p),)) for p in sys.argv[3:]]\n\
                      [one.start() for one in all]\n[one.join() for one in all]\n\
                      print(*sorted(found))";
        let ports = PORTS.map(|port| port.to_string());
        let mut argv = vec!["python3", "-c", script, OWN, address];
        argv.extend(ports.iter().map(String::as_str));
        let said = ok(within(&self.other, &argv));
        said.split_whitespace().map(|port| port.parse().unwrap()).collect()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for child in self.listener.iter_mut().chain([&mut self.own, &mut self.other]) {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn host(name: &str, address: &str) -> Host {
    Host { name: name.into(), address: Some(address.into()), port: None }
}

/// A cluster in which the machine is what `own` says.
fn cluster(own: &str) -> Cluster {
    let at = |name: &str, other: &str| host(name, if name == own { OWN } else { other });
    let text = serde_json::json!({
        "name": "lab", "controllers": [at("ctl", "10.9.0.20")], "login": [at("head", LOGIN)],
        "pools": [{
            "name": "cpu", "nodes": [at("n1", MEMBER), at("n2", "10.9.0.21")], "cpus": 1,
            "memoryMib": 100,
        }],
        "partitions": [],
        "parameters": {"SrunPortRange": "61000-62000"},
    });
    let mut wish: Cluster = serde_json::from_value(text).unwrap();
    let database = Database { host: "localhost".into(), name: "a".into(), user: "slurm".into() };
    let host = at("db", "10.9.0.22");
    wish.accounting = Some(Accounting { host, database, enforce: [].into() });
    wish
}

/// A machine, and the ports that each of four sees open there.
type Case = (&'static str, [&'static [u16]; 4]);

#[test]
fn only_who_is_to_gets_through_to_a_port() {
    if !possible(NEEDS) {
        return;
    }
    let wire = Wire::new();
    assert_eq!(wire.open_to(STRANGER), PORTS, "without rules everything is open");
    let asked = Opening {
        to: [].into(),
        ports: vec!["9100".into()],
        protocol: Protocol::Tcp,
        from: vec![format!("{STRANGER}/32")],
    };
    let closed = Firewall::default();
    let opened = Firewall { ssh: Some(vec![format!("{STRANGER}/32")]), open: vec![asked] };
    // The machine as, what others of the cluster reach there, what the login machine does; and strangers,
    // where nothing more is said, and where it is.
    let cases: [Case; 4] = [
        ("ctl", [&[6817, 61_000], &[22, 6817, 61_000], &[], &[9100]]),
        (
            "n1",
            [
                &[3306, 6817, 6818, 6819, 9100, 61_000],
                &[22, 3306, 6817, 6818, 6819, 9100, 61_000],
                &[],
                &[9100],
            ],
        ),
        ("db", [&[6819], &[22, 6819], &[], &[9100]]),
        ("head", [&[22, 61_000], &[22, 61_000], &[22], &[22, 9100]]),
    ];
    for (own, [member, login, stranger, more]) in cases {
        let wish = cluster(own);
        // Its neighbour in the cluster keeps its address.
        let neighbour = if own == "n1" { "10.9.0.20" } else { MEMBER };
        if own == "n1" {
            ok(within(&wire.other, &["ip", "address", "add", "10.9.0.20/24", "dev", "e0"]));
        }
        wire.load(&closed.rules(&wish, &wish)[own]);
        assert_eq!(wire.open_to(neighbour), member, "{own}, from the cluster");
        if own != "head" {
            assert_eq!(wire.open_to(LOGIN), login, "{own}, from the login machine");
        }
        assert_eq!(wire.open_to(STRANGER), stranger, "{own}, from outside");
        wire.load(&opened.rules(&wish, &wish)[own]);
        let once = wire.listed();
        assert_eq!(wire.open_to(STRANGER), more, "{own}, from outside, as asked");
        wire.load(&opened.rules(&wish, &wish)[own]);
        assert_eq!(wire.listed(), once, "loaded twice is loaded once");
    }
}

#[test]
fn what_was_begun_before_the_rules_goes_on() {
    if !possible(NEEDS) {
        return;
    }
    let wire = Wire::new();
    // A connection within the cluster to a port of an `srun` that was started before.
    let script = "import socket, sys\n\
                  held = socket.create_connection((sys.argv[1], 40000), 5, (sys.argv[2], 0))\n\
                  print('ready', flush=True)\nsys.stdin.readline()\nheld.settimeout(20)\n\
                  held.sendall(b'x')\nassert held.recv(1) == b'x'\nprint('answered')";
    let echo = "import socket\nheld = socket.create_server(('', 40000))\n\
                print('ready', flush=True)\none, _ = held.accept()\n\
                while True:\n\tgot = one.recv(1)\n\tif not got: break\n\tone.sendall(got)";
    let start = |machine: &Child, argv: &[&str]| {
        let mut command = within(machine, &["setpriv", "--pdeathsig", "KILL", "python3", "-c"]);
        let mut child =
            command.args(argv).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        (child, out)
    };
    let (mut server, _out) = start(&wire.own, &[echo]);
    let (mut client, mut out) = start(&wire.other, &[script, OWN, MEMBER]);
    let mut wish = cluster("head");
    wish.parameters.clear();
    wire.load(&Firewall::default().rules(&wish, &wish)["head"]);
    client.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "answered\n");
    assert!(client.wait().unwrap().success());
    drop(server.kill());
    drop(server.wait());
}
