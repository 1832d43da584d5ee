//! No login is seen anywhere but in the header it belongs in.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;
use trueup::port::forge::CommitState;

use super::fake::{Action, Delivery, FakeGitHub, Fault, PullSpec, login};
use super::{check, client, commit, status};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Kept {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Set where the test runs in a process of its own.
const ALONE: &str = "TRUEUP_TEST_ALONE";

/// In a process of its own: whether a line is kept at all is settled for a whole process, by whichever
/// test comes first.
#[test]
fn no_error_no_debug_text_and_no_line_shows_a_login() {
    if std::env::var_os(ALONE).is_none() {
        let name = "forge::secrets::no_error_no_debug_text_and_no_line_shows_a_login";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let logged = Kept::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(logged.clone())
        .finish();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let texts = tracing::subscriber::with_default(subscriber, || runtime.block_on(provoke()));
    let logged = String::from_utf8_lossy(&logged.0.lock().unwrap()).into_owned();
    assert!(logged.contains("requesting"), "the lines of the transport are looked at as well");
    for (what, text) in texts.iter().map(|text| ("an error", text)).chain([("the log", &logged)]) {
        for secret in ["Canary", "BEGIN RSA", "MIIE", "Bearer", "eyJ"] {
            assert!(!text.contains(secret), "{what} shows {secret}: {text}");
        }
    }
    assert!(texts.len() > 15, "{}", texts.len());
}

/// Every error there is, in both of its texts.
async fn provoke() -> Vec<String> {
    let mut texts = Vec::new();
    let fake = FakeGitHub::start();
    let number = fake.state().open_pull(&PullSpec::default());
    fake.state().add_token("github_pat_CanaryNarrow", "ada", &[]);
    for (at, settings) in [
        fake.settings(login::TOKEN),
        fake.app_settings(),
        fake.settings("github_pat_CanaryNarrow"),
        fake.settings("github_pat_CanaryUnknown"),
        fake.settings("Canary with a space"),
        fake.settings("Canary\u{e9}"),
    ]
    .into_iter()
    .enumerate()
    {
        // A forge that repeats what it was given.
        let echo = if at == 0 { "bad token ghp_CanaryCanaryCanary0123456789abcdef" } else { "no" };
        let forge = client(&settings);
        for action in [
            Action::Drop,
            Action::Deliver(Delivery::Cut(3)),
            Action::Refuse(401, vec![], echo),
            Action::Refuse(403, vec![], "no"),
            Action::Refuse(429, vec![], "no"),
            Action::Refuse(500, vec![], "no"),
        ] {
            fake.inject(Fault { method: "POST", path: "/comments", times: 2, action });
            texts.extend(forge.create_comment(number, "x").await.err().map(|e| show(&e)));
        }
        let wanted = status(CommitState::Pending, "x");
        texts.extend(forge.set_status(&commit('1'), &wanted).await.err().map(|e| show(&e)));
        texts.extend(forge.create_check(&commit('1'), &check(1)).await.err().map(|e| show(&e)));
        texts.extend(forge.open_pulls().await.err().map(|e| show(&e)));
    }
    // A login is in the header for it, alone and whole, and in no other byte.
    let mut seen = std::collections::BTreeSet::new();
    for call in fake.calls() {
        let (logins, rest) = login::split(&call.request);
        let [login] = logins.as_slice() else { panic!("{logins:?}") };
        let token = login.strip_prefix("Bearer ").expect(login);
        assert!(!rest.contains("Canary") && !rest.contains(token), "{rest}");
        let of_app = token.starts_with("ey") || token.starts_with(login::MINTED);
        seen.insert(if of_app { "an app's" } else { token }.to_owned());
    }
    let all = [login::TOKEN, "an app's", "github_pat_CanaryNarrow", "github_pat_CanaryUnknown"];
    assert_eq!(
        seen,
        all.map(str::to_owned).into(),
        "each was sent, and those that cannot be were not"
    );
    // The search finds what is there.
    let mut wrong = fake.calls()[0].request.clone();
    wrong.raw.extend_from_slice(format!("authorization: Bearer {}", login::TOKEN).as_bytes());
    assert_eq!(login::leaks(&fake.state(), &wrong).len(), 2, "as the one shown and as one known");
    let debug = trueup_github::Settings::new(
        "https://x.test",
        trueup_github::Auth::Token(Arc::new(|| Ok(trueup_github::Secret::new("Canary")))),
    );
    texts.push(format!("{debug:?}"));
    texts.push(format!("{:?}", trueup_github::Client::new(debug).unwrap()));
    texts
}

fn show(error: &trueup::port::ForgeError) -> String {
    format!("{error} {error:?}")
}
