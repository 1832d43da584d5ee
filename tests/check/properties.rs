//! Whatever the text, a check ends with findings or a result, never with a panic.

use super::*;

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("apiVersion: trueup/v1\n".to_owned()),
        Just("kind: VirtualMachine\n".to_owned()),
        Just("kind: Network\n".to_owned()),
        Just("metadata: { name: a }\n".to_owned()),
        Just("spec:\n".to_owned()),
        Just("  cidr: 10.0.0.0/8\n".to_owned()),
        Just("  memory: 1GiB\n".to_owned()),
        Just("  cpus: { count: 1 }\n".to_owned()),
        Just("  nics: [{ network: a, address: 10.0.0.9 }]\n".to_owned()),
        Just("---\n".to_owned()),
        Just("...\n".to_owned()),
        Just("&a *a !t | > ? : - , # ' \"\n".to_owned()),
        "[ -~\\n\\t]{0,20}",
        "\\PC{0,8}",
    ];
    prop::collection::vec(piece, 0..20).prop_map(|p| p.concat())
}

fn examples() -> Vec<Arc<[u8]>> {
    let mut files = read_folder(&here("examples-repo")).files;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.into_iter().filter_map(|f| f.bytes).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_of_yaml_never_panic(text in pieces()) {
        check_text(text.as_bytes());
    }

    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_text(&bytes);
    }

    #[test]
    fn damaged_examples_never_panic(which in 0usize..20, at in any::<prop::sample::Index>(), cut in 0usize..9, put in "[ -~\\n]{0,6}") {
        let all = examples();
        let mut bytes = all[which % all.len()].to_vec();
        if !bytes.is_empty() {
            let start = at.index(bytes.len());
            let end = (start + cut).min(bytes.len());
            bytes.splice(start..end, put.bytes());
        }
        let mut files = read_folder(&here("examples-repo"));
        files.files.sort_by(|a, b| a.path.cmp(&b.path));
        let hit = which % files.files.len();
        let path = files.files[hit].path.clone();
        files.files[hit] = file(&path, &bytes);
        let checked = check_all(&files, &mut ParseCache::new());
        for found in &checked.diagnostics {
            prop_assert!(!found.message.is_empty());
        }
    }
}
