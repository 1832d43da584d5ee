//! Kinds that a server stores otherwise than they are written. Each of these holds on the fake and on a
//! real one.

use serde_json::json;
use trueup_kubernetes::release::Action;

use crate::lab::{Lab, both};

both!(a_key_that_is_no_longer_in_a_secret_is_gone, common_kinds_come_to_rest);

const HOME: &str = "
---
apiVersion: v1
kind: Namespace
metadata: {name: $NS}
";

async fn a_key_that_is_no_longer_in_a_secret_is_gone(lab: &Lab) {
    const LOGIN: &str = "
---
apiVersion: v1
kind: Secret
metadata: {name: login}
stringData: {old: one, kept: two}
";
    lab.reconcile(&lab.wish(&[HOME, LOGIN].concat()).await).await;
    let key = lab.key("", "Secret", "login");
    assert_eq!(lab.get("v1", &key).await.unwrap()["data"]["old"], "b25l");
    let less = LOGIN.replace("old: one, ", "");
    let wish = lab.wish(&[HOME, &less].concat()).await;
    let made = lab.reconcile(&wish).await;
    assert_eq!(lab.get("v1", &key).await.unwrap()["data"], json!({"kept": "dHdv"}));
    let shown = format!("{made:?}");
    assert!(!shown.contains("b25l") && !shown.contains("dHdv"), "{shown}");
    assert_eq!(lab.reconcile(&wish).await.steps, []);
}

/// Whatever a server adds to objects or spells in its own way is no difference.
async fn common_kinds_come_to_rest(lab: &Lab) {
    // No node has that label, so that nothing is run where there are nodes.
    const KINDS: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, protocol: TCP, targetPort: http}]}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: gpus}
spec: {hard: {requests.cpu: 2000m, requests.nvidia.com/gpu: '4'}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: small}
spec: {limits: [{type: Container, default: {cpu: '0.5', memory: 1024Mi}}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: store}
spec:
  replicas: 0
  serviceName: web
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec:
      containers:
      - {name: store, image: example.org/store, env: [{name: A, value: b}], resources: {requests: {cpu: 1000m}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {nodeSelector: {no-such-label: here}, containers: [{name: agent, image: example.org/agent}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec: {podSelector: {}, policyTypes: [Ingress]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec: {rules: [{host: example.org, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [''], resources: [pods], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: readers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: staff}]
";
    let wish = lab.wish(&[HOME, KINDS].concat()).await;
    let made = lab.reconcile(&wish).await;
    assert!(made.items.iter().all(|item| item.action == Action::Create), "{made:?}");
    let again = lab.reconcile(&wish).await;
    assert_eq!((again.steps.len(), again.drift().count()), (0, 0), "{again:?}");
    lab.reconcile(&lab.wish(HOME).await).await;
}
