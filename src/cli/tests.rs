//! Tests of the command line as a whole: its shape and its manual.

use clap::Parser as _;

use super::*;

#[test]
fn clap_finds_no_mistake_in_it() {
    command_line().debug_assert();
}

#[test]
fn every_command_says_what_it_does_and_shows_examples() {
    fn walk(command: &clap::Command) {
        for sub in command.get_subcommands() {
            let name = sub.get_name();
            assert!(sub.get_about().is_some(), "{name} has no manual");
            let examples = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.starts_with("EXAMPLES\n  trueup "), "{name}: {examples}");
            for argument in sub.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {}", argument.get_id());
            }
            walk(sub);
        }
    }
    walk(&command_line());
}

#[test]
fn every_example_is_a_command_there_is() {
    fn walk(command: &clap::Command) {
        for sub in command.get_subcommands() {
            let text = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in text.lines().filter(|line| line.trim_start().starts_with("trueup ")) {
                let line = line.split(['|', '>', '#']).next().unwrap_or_default();
                let line = line.split(" || ").next().unwrap_or_default();
                let words = line.split_whitespace().map(|word| word.trim_matches('\''));
                // Quoted reasons with blanks come apart here; their words are values all the same.
                let words: Vec<_> = words.collect();
                let quoted = line.contains(" -m ");
                let parsed = Cli::try_parse_from(&words);
                assert!(parsed.is_ok() || quoted, "{line}: {}", parsed.unwrap_err());
            }
            walk(sub);
        }
    }
    walk(&command_line());
}

#[test]
fn the_global_switches_work_on_either_side() {
    for words in
        [["trueup", "--state-dir", "/s", "status"], ["trueup", "status", "--state-dir", "/s"]]
    {
        let cli = Cli::try_parse_from(words).unwrap();
        assert_eq!(cli.global.state_dir.as_deref(), Some(std::path::Path::new("/s")));
    }
    assert!(Cli::try_parse_from(["trueup", "status", "-q", "-v"]).is_err());
}
