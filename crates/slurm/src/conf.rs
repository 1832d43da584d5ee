//! A `slurm.conf` as text, read into parameters, nodes and partitions, so that two of them can be
//! compared. It reads what Slurm reads, and never follows an `Include`: that is told instead.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use crate::hostlist;

/// One logical line: comments gone, continuations joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it begins, from 1.
    pub number: usize,
    /// Keys as written and their values, quotes gone; a word without `=` has an empty value.
    pub pairs: Vec<(String, String)>,
}

/// The values of a node or a partition, by key in lower case.
pub type Fields = BTreeMap<String, String>;

/// Most queues of a file: it may be of a machine that others have in their hands.
const PARTITIONS_MAX: usize = 4096;

/// What a `slurm.conf` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conf {
    /// Parameters by name in lower case; the last one holds, as with Slurm.
    pub parameters: Fields,
    /// `SlurmctldHost`, in order.
    pub controllers: Vec<String>,
    /// Nodes by name, defaults of `NodeName=DEFAULT` applied.
    pub nodes: BTreeMap<String, Arc<Fields>>,
    /// Partitions by name, defaults applied.
    pub partitions: BTreeMap<String, Fields>,
    /// Everything else that stands on a line of its own: `NodeSet`, `DownNodes`, `Include`, by line.
    pub others: Vec<String>,
}

/// A `slurm.conf` that cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ConfError {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// The logical lines of a file of Slurm's.
#[must_use]
pub fn lines(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut held = String::new();
    let mut begun = 1;
    for (at, raw) in text.lines().enumerate() {
        let code = uncomment(raw);
        if held.is_empty() {
            begun = at + 1;
        }
        match code.trim_end().strip_suffix('\\') {
            Some(head) => {
                held.push_str(head);
                held.push(' ');
            }
            None => {
                held.push_str(code);
                push_line(&mut lines, begun, &held);
                held.clear();
            }
        }
    }
    push_line(&mut lines, begun, &held);
    lines
}

fn push_line(lines: &mut Vec<Line>, number: usize, text: &str) {
    let pairs = pairs(text);
    if !pairs.is_empty() {
        lines.push(Line { number, pairs });
    }
}

/// Cuts a comment: `#` begins one unless a backslash stands before it.
fn uncomment(raw: &str) -> &str {
    let bytes = raw.as_bytes();
    let end =
        (0..bytes.len()).find(|at| bytes[*at] == b'#' && (*at == 0 || bytes[at - 1] != b'\\'));
    end.map_or(raw, |end| &raw[..end])
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(rest.len());
        let key = rest[..end].trim_end_matches(['+', '-']).to_owned();
        let after = rest[end..].trim_start();
        let Some(value) = after.strip_prefix('=') else {
            pairs.push((key, String::new()));
            rest = after;
            continue;
        };
        let value = value.trim_start();
        let (value, left) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => value.split_at(value.find(char::is_whitespace).unwrap_or(value.len())),
        };
        pairs.push((key, value.to_owned()));
        rest = left.trim_start();
    }
    pairs
}

impl Conf {
    /// Reads a whole file.
    ///
    /// # Errors
    /// [`ConfError`] where names cannot be read; what Slurm says of the rest is for
    /// [`crate::Prover`] to find out.
    pub fn parse(text: &str) -> Result<Self, ConfError> {
        let mut conf = Self::default();
        let (mut node_default, mut partition_default) = (Fields::new(), Fields::new());
        for line in lines(text) {
            let (first, value) = &line.pairs[0];
            match first.to_ascii_lowercase().as_str() {
                "nodename" => conf.add_nodes(line, &mut node_default)?,
                "partitionname" => {
                    let value = value.clone();
                    let fields = fields(line.pairs.into_iter().skip(1));
                    if value.eq_ignore_ascii_case("default") {
                        partition_default.extend(fields);
                    } else {
                        let mut whole = partition_default.clone();
                        whole.extend(fields);
                        conf.partitions.insert(value, whole);
                    }
                    if conf.partitions.len() > PARTITIONS_MAX {
                        let message = format!("more than {PARTITIONS_MAX} partitions");
                        return Err(ConfError { line: line.number, message });
                    }
                }
                "nodeset" | "downnodes" | "frontendname" | "include" => {
                    conf.others.push(spelled(&line.pairs));
                }
                _ => conf.add_parameters(line.pairs),
            }
        }
        Ok(conf)
    }

    fn add_parameters(&mut self, pairs: Vec<(String, String)>) {
        for (key, value) in pairs {
            if key.eq_ignore_ascii_case("SlurmctldHost") {
                self.controllers.push(value);
            } else {
                self.parameters.insert(key.to_ascii_lowercase(), value);
            }
        }
    }

    fn add_nodes(&mut self, line: Line, default: &mut Fields) -> Result<(), ConfError> {
        let number = line.number;
        let wrong = |message: String| ConfError { line: number, message };
        let mut pairs = line.pairs.into_iter();
        let names = pairs.next().map(|(_, names)| names).unwrap_or_default();
        let own = fields(pairs);
        if names.eq_ignore_ascii_case("default") {
            default.extend(own);
            return Ok(());
        }
        let mut whole = default.clone();
        whole.extend(own);
        let names = hostlist::expand(&names).map_err(|error| wrong(error.to_string()))?;
        if self.nodes.len() + names.len() > hostlist::NAMES_MAX {
            return Err(wrong(format!("more than {} nodes", hostlist::NAMES_MAX)));
        }
        // An address list goes along with the names, one each.
        let mut each: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for key in ["nodeaddr", "nodehostname", "port"] {
            if let Some(list) = whole.get(key)
                && let Ok(mut values) = hostlist::expand(list)
                && values.len() == names.len()
            {
                match &mut values[..] {
                    [only] => drop(whole.insert(key.to_owned(), std::mem::take(only))),
                    _ => drop(each.insert(key, values)),
                }
            }
        }
        let shared = Arc::new(whole);
        for (at, name) in names.into_iter().enumerate() {
            let fields = if each.is_empty() {
                Arc::clone(&shared)
            } else {
                let mut own = Fields::clone(&shared);
                own.extend(each.iter().map(|(key, of)| ((*key).to_owned(), of[at].clone())));
                Arc::new(own)
            };
            match self.nodes.entry(name) {
                Entry::Vacant(free) => {
                    free.insert(fields);
                }
                Entry::Occupied(taken) => {
                    return Err(wrong(format!("node {} is there twice", taken.key())));
                }
            }
        }
        Ok(())
    }

    /// A parameter's value, whatever the case of its name.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(&name.to_ascii_lowercase()).map(String::as_str)
    }
}

fn fields(pairs: impl Iterator<Item = (String, String)>) -> Fields {
    pairs
        .map(|(mut key, value)| {
            key.make_ascii_lowercase();
            (key, value)
        })
        .collect()
}

/// A line as it is written again: quotes only where they are needed.
#[must_use]
pub fn spelled<K: AsRef<str>>(pairs: &[(K, String)]) -> String {
    let mut line = String::new();
    for (key, value) in pairs {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(key.as_ref());
        if value.is_empty() {
            continue;
        }
        let quote = if value.contains(char::is_whitespace) { "\"" } else { "" };
        for part in ["=", quote, value, quote] {
            line.push_str(part);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# a comment
ClusterName=lab   SlurmUser=root
SlurmctldHost=a(10.0.0.1)
slurmctldhost=b
SlurmdParameters=config_overrides # trailing
NodeName=DEFAULT CPUs=4 RealMemory=4000
NodeName=n[1-2] NodeAddr=10.0.1.[1-2] \
  Gres=gpu:a100:2
NodeName=n3 CPUs=8 Reason="two words"
NodeSet=fast Feature=fast
PartitionName=DEFAULT MaxTime=60
PartitionName=batch Nodes=ALL
"#;

    #[test]
    fn a_file_is_read_as_slurm_reads_it() {
        let conf = Conf::parse(TEXT).unwrap();
        assert_eq!(conf.parameter("SlurmUser"), Some("root"));
        assert_eq!(conf.parameter("slurmdparameters"), Some("config_overrides"));
        assert_eq!(conf.controllers, ["a(10.0.0.1)", "b"]);
        assert_eq!(conf.nodes["n2"]["nodeaddr"], "10.0.1.2");
        assert_eq!(conf.nodes["n2"]["gres"], "gpu:a100:2");
        assert_eq!(conf.nodes["n3"]["cpus"], "8");
        assert_eq!(conf.nodes["n3"]["reason"], "two words");
        assert_eq!(conf.partitions["batch"]["maxtime"], "60");
        assert_eq!(conf.others, ["NodeSet=fast Feature=fast"]);
    }

    #[test]
    fn a_node_twice_is_told_with_its_line() {
        let error = Conf::parse("NodeName=n[1-3]\n\nNodeName=n2").unwrap_err();
        assert_eq!(error.to_string(), "line 3: node n2 is there twice");
    }

    #[test]
    fn a_file_without_end_is_no_file() {
        let bomb: String = (0..3).map(|n| format!("NodeName=n{n}x[1-30000]\n")).collect();
        let error = Conf::parse(&bomb).unwrap_err();
        assert_eq!(error.to_string(), "line 3: more than 65536 nodes");
        let bomb: String = (0..=PARTITIONS_MAX).map(|n| format!("PartitionName=p{n}\n")).collect();
        assert!(Conf::parse(&bomb).unwrap_err().message.contains("4096 partitions"));
    }
}
