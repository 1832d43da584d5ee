//! From a kubeconfig to an API server that can be asked. Programs that a kubeconfig names are only
//! started where that is allowed: a file from elsewhere would otherwise run what it likes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::api::{Api, Limits};
use crate::cert::{self, Certificate};
use crate::fault::chain;

/// Largest kubeconfig: those of hundreds of clusters have less.
const KUBECONFIG_MAX: u64 = 4 * 1024 * 1024;

/// Letters of a line of PEM (RFC 7468, 2).
const PEM_LINE: usize = 64;

/// Which cluster, by reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeconfigRef {
    /// The file.
    pub path: PathBuf,
    /// The context in it; `None`: its current one.
    pub context: Option<String>,
    /// Whether programs that it names (`exec`, `auth-provider`) may be started.
    pub programs: bool,
}

/// Why there is no way to a cluster.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file cannot be read.
    #[error("cannot read the kubeconfig {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others than we may read it, or change it.
    #[error(
        "{} {words}: whoever has it has the cluster; `chown {owner}` and `chmod 600` it",
        .path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Why.
        words: String,
        /// Whose it should be: our own number.
        owner: u32,
    },
    /// The file is no kubeconfig, or lacks what is needed.
    #[error("the kubeconfig {} cannot be used: {words}", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        words: String,
    },
    /// It wants to start a program.
    #[error(
        "the kubeconfig {} starts the program `{program}` for its credentials, which is not allowed: use a token or a certificate, or allow programs for this cluster",
        .path.display()
    )]
    Program {
        /// The file.
        path: PathBuf,
        /// The program.
        program: String,
    },
    /// It does not check whom it talks to.
    #[error(
        "the kubeconfig {} trusts every server (insecure-skip-tls-verify): give it the authority of the cluster instead",
        .path.display()
    )]
    Insecure {
        /// The file.
        path: PathBuf,
    },
}

/// A way to a cluster.
#[derive(Debug, Clone)]
pub struct Access {
    /// The server.
    pub api: Api,
    /// The namespace of the context.
    pub namespace: String,
    config: Config,
}

impl Access {
    /// The certificate by which we are known, and those of the authorities that we trust.
    ///
    /// # Errors
    /// In words, which certificate cannot be read.
    pub fn own_certificates(&self) -> Result<Vec<Certificate>, String> {
        let mut all = Vec::new();
        for (index, authority) in self.config.root_cert.iter().flatten().enumerate() {
            let what = format!("{} {} of the kubeconfig", cert::AUTHORITY, index + 1);
            all.push(cert::from_der(&what, authority)?);
        }
        if let Some(pem) = client_certificate(&self.config.auth_info)? {
            all.extend(cert::from_pem("client certificate of the kubeconfig", &pem)?);
        }
        Ok(all)
    }

    /// The authorities that we trust, as a PEM text; empty: none is named.
    #[must_use]
    pub fn authorities_pem(&self) -> String {
        use base64::Engine as _;
        let pem = |der: &Vec<u8>| {
            let packed = base64::engine::general_purpose::STANDARD.encode(der);
            let lines: Vec<&str> = packed
                .as_bytes()
                .chunks(PEM_LINE)
                .filter_map(|line| std::str::from_utf8(line).ok())
                .collect();
            format!(
                "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                lines.join("\n")
            )
        };
        self.config.root_cert.iter().flatten().map(pem).collect()
    }

    /// The name that the server's certificate has to be for, where that is not its host.
    pub(crate) fn tls_name(&self) -> Option<&str> {
        self.config.tls_server_name.as_deref()
    }

    /// The host and port of the server; `None` where it is not reached over TLS.
    pub(crate) fn tls_place(&self) -> Option<(String, u16)> {
        let url = &self.config.cluster_url;
        let host = url.host()?.trim_matches(['[', ']']).to_owned();
        (url.scheme_str() == Some("https")).then(|| (host, url.port_u16().unwrap_or(443)))
    }
}

fn client_certificate(auth: &AuthInfo) -> Result<Option<Vec<u8>>, String> {
    use base64::Engine as _;
    if let Some(data) = &auth.client_certificate_data {
        let bytes = base64::engine::general_purpose::STANDARD.decode(data.trim());
        return bytes.map(Some).map_err(|error| format!("client-certificate-data: {error}"));
    }
    let Some(path) = &auth.client_certificate else { return Ok(None) };
    std::fs::read(path).map(Some).map_err(|error| format!("{path}: {error}"))
}

/// Opens the way to a cluster; nothing is sent yet.
///
/// # Errors
/// [`AccessError`].
pub async fn access(which: &KubeconfigRef, limits: Limits) -> Result<Access, AccessError> {
    open(which, limits, Origin::Ours).await
}

/// The same, by a kubeconfig that another machine gave: see [`leads_to`].
///
/// # Errors
/// [`AccessError`].
pub(crate) async fn access_given(
    which: &KubeconfigRef,
    limits: Limits,
) -> Result<Access, AccessError> {
    open(which, limits, Origin::Given).await
}

/// Whether a kubeconfig that a machine of that host gave may be used: it leads there alone, believes whom the one
/// believed that was used before it, and everything that it says is in itself. One that names another file, a
/// program or a proxy could have this host read its own files, and send them to whom it likes.
///
/// # Errors
/// In words, why not.
pub fn leads_to(text: &str, host: &str, before: Option<&str>) -> Result<(), String> {
    let read = |text| Kubeconfig::from_yaml(text).map_err(|e| without_text(&chain(&e)));
    let file = read(text)?;
    names_nothing(&file)?;
    let believed: Option<BTreeSet<String>> =
        before.map(|it| Ok::<_, String>(authorities(&read(it)?))).transpose()?;
    if host_of(&file).as_deref() != Some(host) {
        return Err(format!("its server is not on {host}"));
    }
    match believed.is_none_or(|before| before == authorities(&file)) {
        true => Ok(()),
        false => Err("it believes another authority than the one before".to_owned()),
    }
}

/// The host that a kubeconfig leads to; `None`: it leads to none, or to several.
pub fn leads_where(text: &str) -> Option<String> {
    host_of(&Kubeconfig::from_yaml(text).ok()?)
}

fn host_of(file: &Kubeconfig) -> Option<String> {
    let host = |server: &str| server.parse::<http::Uri>().ok()?.host().map(str::to_owned);
    let clusters = file.clusters.iter().filter_map(|named| named.cluster.as_ref());
    let hosts: BTreeSet<Option<String>> = clusters.map(|it| host(it.server.as_deref()?)).collect();
    let one = hosts.len() == 1;
    hosts.into_iter().flatten().next().filter(|_| one)
}

/// The certificates of authorities in a kubeconfig, packed.
fn authorities(file: &Kubeconfig) -> BTreeSet<String> {
    let clusters = file.clusters.iter().filter_map(|named| named.cluster.as_ref());
    let packed = clusters.map(|it| it.certificate_authority_data.as_deref().unwrap_or_default());
    packed.map(|it| it.trim().to_owned()).collect()
}

fn names_nothing(file: &Kubeconfig) -> Result<(), String> {
    let refused = |what: &str| Err(format!("it names {what}, and must stand for itself"));
    for cluster in file.clusters.iter().filter_map(|named| named.cluster.as_ref()) {
        if cluster.certificate_authority.is_some() {
            return refused("a file of certificates (certificate-authority)");
        }
        if cluster.proxy_url.is_some() {
            return refused("a proxy (proxy-url)");
        }
    }
    for user in file.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()) {
        if user.token_file.is_some() || user.client_key.is_some() {
            return refused("a file of a secret (tokenFile, client-key)");
        }
        if user.client_certificate.is_some() {
            return refused("a file of a certificate (client-certificate)");
        }
        if user.exec.is_some() || user.auth_provider.is_some() {
            return refused("a program (exec, auth-provider)");
        }
    }
    Ok(())
}

/// Who wrote a kubeconfig.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Somebody of this host.
    Ours,
    /// Another machine.
    Given,
}

async fn open(
    which: &KubeconfigRef,
    limits: Limits,
    origin: Origin,
) -> Result<Access, AccessError> {
    let path = which.path.clone();
    let text = read(&path)?;
    let unusable = |words: String| AccessError::Unusable { path: path.clone(), words };
    let mut file = Kubeconfig::from_yaml(&text).map_err(|e| unusable(without_text(&chain(&e))))?;
    if origin == Origin::Given {
        names_nothing(&file).map_err(unusable)?;
    }
    absolute(&mut file, &path);
    let options =
        KubeConfigOptions { context: which.context.clone(), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(file, &options).await;
    let mut config = config.map_err(|error| unusable(chain(&error)))?;
    // What a key or a token of its own file says is worth as much as the kubeconfig.
    for named in [&config.auth_info.client_key, &config.auth_info.token_file].into_iter().flatten()
    {
        guarded(Path::new(named))?;
    }
    if !which.programs
        && let Some(program) = program(&config.auth_info)
    {
        return Err(AccessError::Program { path, program });
    }
    if config.accept_invalid_certs {
        return Err(AccessError::Insecure { path });
    }
    config.connect_timeout = Some(limits.connect);
    // Answers have their own limit; this is for watches, which are ended by the server in time, so that
    // one which goes on being silent is one that nobody will end.
    config.read_timeout = Some(limits.silence());
    // Requests are repeated by us, who know which of them may be.
    config.default_retry = false;
    let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let client = Client::try_from(config.clone()).map_err(|error| unusable(chain(&error)))?;
    let namespace = config.default_namespace.clone();
    Ok(Access { api: Api::new(client, server, limits), namespace, config })
}

fn read(path: &Path) -> Result<String, AccessError> {
    let failed = |source| AccessError::Read { path: path.to_owned(), source };
    let (file, size) = guarded(path)?;
    if size > KUBECONFIG_MAX {
        let words = format!("it has {size} bytes, at most {KUBECONFIG_MAX}");
        return Err(failed(std::io::Error::other(words)));
    }
    let mut text = String::new();
    file.take(KUBECONFIG_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Opens a file that is ours or root's, and that nobody else may read or write; with its size.
fn guarded(path: &Path) -> Result<(File, u64), AccessError> {
    let failed = |source| AccessError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // Of the very file that is read, whatever its path leads to in the next moment.
    let known = file.metadata().map_err(failed)?;
    let own = rustix::process::geteuid().as_raw();
    let exposed = |words: String| AccessError::Exposed { path: path.to_owned(), words, owner: own };
    if known.uid() != own && known.uid() != 0 {
        return Err(exposed(format!("belongs to the user {}", known.uid())));
    }
    let others = known.mode() & 0o077;
    if others != 0 {
        let mode = known.mode() & 0o7777;
        return Err(exposed(format!("may be used by others (mode {mode:04o})")));
    }
    Ok((file, known.len()))
}

/// The first line of an error about a text: what follows may quote it, and tokens are in it.
fn without_text(words: &str) -> String {
    words.split(" --> ").next().unwrap_or_default().trim().to_owned()
}

/// Files that a kubeconfig names are beside it.
fn absolute(file: &mut Kubeconfig, path: &Path) {
    let folder = path.parent().unwrap_or(Path::new(""));
    let beside = |name: &mut Option<String>| {
        if let Some(name) = name {
            *name = folder.join(&*name).to_string_lossy().into_owned();
        }
    };
    for cluster in file.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        beside(&mut cluster.certificate_authority);
    }
    for user in file.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        beside(&mut user.client_certificate);
        beside(&mut user.client_key);
        beside(&mut user.token_file);
    }
}

/// The program that these credentials come from, where one is started.
fn program(auth: &AuthInfo) -> Option<String> {
    if let Some(exec) = &auth.exec {
        return Some(exec.command.clone().unwrap_or_default());
    }
    let provider = auth.auth_provider.as_ref()?;
    let named = provider.config.get("cmd-path").cloned();
    Some(named.unwrap_or_else(|| format!("of the provider {}", provider.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open(user: &str, cluster: &str, programs: bool) -> Result<Access, AccessError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u, namespace: shop}}}}]\nclusters: [{{name: k, cluster: {{server: 'http://127.0.0.1:1'{cluster}}}}}]\nusers: [{{name: u, user: {user}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        only_ours(&path, 0o600);
        access(&KubeconfigRef { path, context: None, programs }, Limits::default()).await
    }

    fn only_ours(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_others_may_read_or_change_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let open = async |path: &Path| {
            let which = KubeconfigRef { path: path.to_owned(), context: None, programs: false };
            access(&which, Limits::default()).await.map(drop)
        };
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: u, user: {tokenFile: token}}]\n";
        std::fs::write(&path, text).unwrap();
        let token = dir.path().join("token");
        std::fs::write(&token, "abc").unwrap();
        only_ours(&token, 0o600);
        for mode in [0o640, 0o604, 0o620, 0o602, 0o644] {
            only_ours(&path, mode);
            let error = open(&path).await.unwrap_err().to_string();
            assert!(error.contains(&format!("mode {mode:04o}")), "{error}");
            assert!(error.contains("chmod 600"), "{error}");
        }
        for mode in [0o600, 0o400] {
            only_ours(&path, mode);
            open(&path).await.unwrap();
        }
        only_ours(&token, 0o644);
        let error = open(&path).await.unwrap_err().to_string();
        assert!(error.contains("token may be used by others"), "{error}");
        if rustix::process::geteuid().is_root() {
            only_ours(&token, 0o600);
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            let error = open(&path).await.unwrap_err().to_string();
            assert!(error.contains("belongs to the user 65534"), "{error}");
        }
    }

    #[tokio::test]
    async fn programs_are_not_started_and_every_server_is_not_trusted() {
        let user = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/steal}}";
        let error = open(user, "", false).await.unwrap_err().to_string();
        assert!(error.contains("starts the program `/bin/steal`"), "{error}");
        let user = "{auth-provider: {name: gcp, config: {cmd-path: /bin/steal}}}";
        let error = open(user, "", false).await.unwrap_err().to_string();
        assert!(error.contains("starts the program `/bin/steal`"), "{error}");
        let error = open("{}", ", insecure-skip-tls-verify: true", false).await.unwrap_err();
        assert!(error.to_string().contains("trusts every server"), "{error}");
        let fine = open("{token: abc}", "", false).await.unwrap();
        assert_eq!(fine.namespace, "shop");
        assert!(!format!("{fine:?}").contains("abc"));
    }

    #[tokio::test]
    async fn what_another_machine_gave_names_nothing_of_this_one() {
        use base64::Engine as _;
        let pack = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let config = |user: &str, cluster: &str| {
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nclusters: [{{name: k, cluster: {{server: 'https://10.9.0.10:6443', certificate-authority-data: {}{cluster}}}}}]\nusers: [{{name: u, user: {user}}}]\n",
                pack("authority")
            )
        };
        let inline = format!(
            "{{client-certificate-data: {}, client-key-data: {}}}",
            pack("certificate"),
            pack("key")
        );
        let good = config(&inline, "");
        assert_eq!(leads_where(&good).as_deref(), Some("10.9.0.10"));
        assert_eq!(leads_where("clusters: []"), None);
        leads_to("clusters: []", "10.9.0.10", None).unwrap_err();
        leads_to(&good, "10.9.0.10", None).unwrap();
        leads_to(&config("{token: renewed}", ""), "10.9.0.10", Some(&good)).unwrap();
        let why = leads_to(&good, "10.9.0.11", None).unwrap_err();
        assert_eq!(why, "its server is not on 10.9.0.11");
        let other = good.replace(&pack("authority"), &pack("another"));
        let why = leads_to(&other, "10.9.0.10", Some(&good)).unwrap_err();
        assert!(why.contains("another authority"), "{why}");
        for (user, cluster, what) in [
            ("{tokenFile: /etc/trueup/forge-token}", "", "tokenFile"),
            ("{client-key: /etc/ssl/private/host.key}", "", "client-key"),
            ("{client-certificate: /etc/ssl/host.crt}", "", "client-certificate"),
            ("{exec: {apiVersion: v1, command: /bin/steal}}", "", "exec"),
            ("{auth-provider: {name: gcp, config: {}}}", "", "auth-provider"),
            ("{token: abc}", ", proxy-url: 'http://10.9.0.66:3128'", "proxy-url"),
            ("{token: abc}", ", certificate-authority: /etc/passwd", "certificate-authority"),
        ] {
            let text = config(user, cluster);
            let why = leads_to(&text, "10.9.0.10", None).unwrap_err();
            assert!(why.contains(what) && !why.contains('/'), "{why}");
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("config");
            std::fs::write(&path, &text).unwrap();
            only_ours(&path, 0o600);
            let which = KubeconfigRef { path, context: None, programs: false };
            let error = access_given(&which, Limits::default()).await.unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[tokio::test]
    async fn an_unreadable_file_is_not_quoted() {
        let error = open("{token: hunter2, token: hunter3}", "", false).await.unwrap_err();
        assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
        let missing = KubeconfigRef { path: "/nonexistent".into(), context: None, programs: false };
        let error = access(&missing, Limits::default()).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot read the kubeconfig /nonexistent");
    }
}
