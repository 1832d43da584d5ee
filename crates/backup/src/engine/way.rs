//! The way down a snapshot's tree: where what is in it goes, and that nothing leads elsewhere.
//!
//! Whoever can write to a repository chose every name in it and the order of all of them. The library
//! joins names as they are and goes down whatever has a subtree, so that a link could be a folder to what
//! comes after it.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use rustic_core::repofile::{Node, NodeType};

/// The folders that are around what the walk is at.
#[derive(Default)]
pub(super) struct Way(Vec<PathBuf>);

impl Way {
    /// Goes on to `inside`, as the walk says where `node` is. It is a place below the folder that is
    /// restored into only if this has seen each folder around it.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn to(&mut self, inside: &Path, node: &Node) -> Result<(), String> {
        let wrong = |why: &str| format!("it holds `{}`, {why}", inside.display());
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        let name = node.name();
        if inside.file_name() != Some(&*name) || !inside.components().all(plain) {
            return Err(wrong("which is no path"));
        }
        // A folder that is there twice is left too: the second one is another entry beside it.
        while self.0.last().is_some_and(|at| at == inside || !inside.starts_with(at)) {
            self.0.pop();
        }
        let around = self.0.last().map_or(OsStr::new(""), |at| at.as_os_str());
        if inside.parent().map(Path::as_os_str) != Some(around) {
            return Err(wrong("which is in no folder"));
        }
        match (&node.node_type, node.subtree) {
            (NodeType::Dir, _) => self.0.push(inside.to_owned()),
            (_, None) => {}
            (_, Some(_)) => return Err(wrong("which is a folder and something else")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustic_core::TreeId;
    use rustic_core::repofile::{Metadata, Tree};

    use super::super::pack::{Packer, Type};
    use super::super::{Job, Reporter, run};
    use super::*;
    use crate::bridge::Bridge;
    use crate::protocol::{
        Action, Backup, Done, Fault, Filter, KeySource, Limits, Request, Restore, Source, Target,
    };
    use crate::store;

    fn node(name: &str, node_type: NodeType) -> Node {
        let meta = Metadata { links: 1, ..Metadata::default() };
        // As they are: what is written by the library has its slashes escaped, or none.
        Node { name: name.into(), ..Node::new_node(OsStr::new("x"), node_type, meta) }
    }

    fn link(name: &str, to: &Path) -> Node {
        node(name, NodeType::from_link(to))
    }

    #[test]
    fn only_what_lies_in_folders_that_were_seen_has_a_place() {
        let dir = |name: &str| node(name, NodeType::Dir);
        let file = |name: &str| node(name, NodeType::File);
        let mut way = Way::default();
        let mut to = |inside: &str, node: &Node| way.to(Path::new(inside), node);
        to("a", &dir("a")).unwrap();
        to("a/b", &dir("b")).unwrap();
        to("a/b/c", &file("c")).unwrap();
        to("a/d", &file("d")).unwrap();
        to("e", &file("e")).unwrap();
        // Snapshots of earlier versions may hold a folder twice.
        to("f", &dir("f")).unwrap();
        to("f/1", &file("1")).unwrap();
        to("f", &dir("f")).unwrap();
        to("f/2", &file("2")).unwrap();
        for (inside, odd) in [
            ("a/g", file("g")),
            ("e/g", file("g")),
            ("f/x/y", file("x/y")),
            ("f/x/y", file("y")),
            ("f/..", file("..")),
            ("/etc/passwd", file("/etc/passwd")),
            ("f", file("")),
            ("f", file(".")),
            ("", file("")),
        ] {
            assert!(to(inside, &odd).is_err(), "{inside}");
        }
        to("f", &dir("f")).unwrap();
        let both = Node { subtree: Some(TreeId::default()), ..link("g", Path::new("/etc")) };
        assert!(to("f/g", &both).unwrap_err().contains("something else"));
    }

    struct Lab {
        folder: tempfile::TempDir,
    }

    impl Lab {
        fn request(&self, action: Action) -> Request {
            Request {
                target: Target::Local { path: self.folder.path().join("repo") },
                key: KeySource::Stdin,
                state: self.folder.path().join("state"),
                repository: None,
                limits: Limits::default(),
                action,
            }
        }

        fn run(&self, action: Action) -> Result<Done, Fault> {
            run(&self.request(action), "secret", None, |_| ()).map(|ended| ended.done)
        }

        /// Stores a snapshot of a tree as it is, as somebody with the key may; trees of the others come
        /// before it.
        fn store(&self, trees: &[Tree]) -> Result<String, Fault> {
            let request = self.request(Action::Init {});
            let store = store::open(&request.target, &request.state)?;
            let job = Job {
                bridge: Arc::new(Bridge::new(store, &request.limits)),
                reporter: Reporter::new(None, |_| ()),
                state: request.state,
                repository: None,
                limits: request.limits,
            };
            let packer = Packer::new(&job.bridge, &job.open("secret")?, Type::Tree)?;
            let mut snapshot = job.blank(&Backup {
                source: Source::Paths { paths: Vec::new() },
                host: "h".into(),
                tags: Vec::new(),
                exclude: Vec::new(),
                one_file_system: false,
                force: false,
                time: None,
            })?;
            for tree in trees {
                let (text, id) = tree.serialize().unwrap();
                packer.add(id.into(), &text)?;
                snapshot.tree = id;
            }
            packer.finish()?;
            packer.snapshot(&mut snapshot)?;
            Ok(snapshot.id.to_hex().as_str().to_owned())
        }
    }

    #[test]
    fn nothing_is_restored_through_a_link_of_the_snapshot() {
        let lab = Lab { folder: tempfile::tempdir().unwrap() };
        lab.run(Action::Init {}).unwrap();
        let outside = lab.folder.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        let planted = || link("planted", Path::new("/etc/passwd"));
        let below = Tree { nodes: vec![planted()] };
        let (_, id) = below.serialize().unwrap();
        let by_name = Tree {
            nodes: vec![link("a", &outside), Node { name: "a/planted".into(), ..planted() }],
        };
        let by_subtree = Tree { nodes: vec![Node { subtree: Some(id), ..link("a", &outside) }] };
        for (number, trees) in [vec![by_name], vec![below, by_subtree]].into_iter().enumerate() {
            let snapshot = lab.store(&trees).unwrap();
            let to = lab.folder.path().join(format!("to-{number}"));
            let (filter, path) = (Filter::default(), None);
            let restore = Restore { snapshot, filter, path, to, resume: false, sync: false };
            let refused = lab.run(Action::Restore(restore));
            assert!(std::fs::read_dir(&outside).unwrap().next().is_none(), "it left the folder");
            let Err(Fault::Damaged { why, .. }) = refused else { panic!("{refused:?}") };
            assert!(why.contains("which is"), "{why}");
        }
    }
}
