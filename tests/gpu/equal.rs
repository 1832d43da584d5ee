//! Several equal GPUs, and layouts that name only their product.

use trueup::plan::SkipReason;

use super::lab::{Lab, layout, shown, uuid, why};

const TWO: [&str; 2] = ["h100-80gb", "h100-80gb"];
/// Seven small ones.
const SMALL: &str = "  partitions: [{ name: small, shape: 1g, count: 7 }]\n";
/// A large one.
const LARGE: &str = "  partitions: [{ name: large, shape: 3g, start: 4 }]\n";

/// A layout of any GPU of the product.
fn any(lab: &mut Lab, name: &str, mode: &str, more: &str) -> String {
    let state = lab.store.read().unwrap();
    let product = state.boards[&state.gpus[0].board].title.clone();
    layout(name, 0, mode, more)
        .replace(&format!("uuid: {}", uuid(0)), &format!("product: 'NVIDIA {product}'"))
}

/// Small ones on the first GPU, a large one on the second, by layouts that name them.
async fn cut() -> Lab {
    let mut lab = Lab::with(&TWO).await;
    lab.commit(&[layout("one", 0, "mig", SMALL), layout("two", 1, "mig", LARGE)]);
    lab.settle().await;
    assert_eq!((lab.stands(0).len(), lab.stands(1).len()), (7, 1));
    lab
}

#[tokio::test]
async fn each_layout_gets_the_gpu_on_which_the_least_is_destroyed() {
    let mut lab = cut().await;
    // By their names alone it would be the other way round.
    let layouts = [any(&mut lab, "a", "mig", LARGE), any(&mut lab, "b", "mig", SMALL)];
    lab.commit(&layouts);
    let before = lab.calls();
    lab.settle().await;
    assert_eq!((lab.stands(0).len(), lab.stands(1).len()), (7, 1));
    assert_eq!(lab.calls(), before);
}

#[tokio::test]
async fn a_layout_keeps_the_gpu_that_it_has() {
    let mut lab = Lab::with(&TWO).await;
    let large = any(&mut lab, "m", "mig", LARGE);
    lab.commit(std::slice::from_ref(&large));
    lab.settle().await;
    let at = (0..2).find(|gpu| lab.stands(*gpu).len() == 1).unwrap();
    // One that comes before it in every order gets the other one, also after a start of the program.
    let first = any(&mut lab, "a", "mig", LARGE);
    lab.commit(&[first.clone(), large.clone()]);
    lab.restart().await;
    lab.settle().await;
    assert_eq!((lab.stands(0).len(), lab.stands(1).len()), (1, 1));
    let destroyed = lab.calls().iter().any(|call| call.contains("Destroy"));
    assert!(!destroyed);
    // And what they ask for may be exchanged without them being exchanged.
    let small = any(&mut lab, "m", "mig", SMALL);
    lab.commit(&[first, small]);
    lab.settle().await;
    assert_eq!(lab.stands(at).len(), 7);
    assert_eq!(lab.stands(1 - at).len(), 1);
}

#[tokio::test]
async fn a_gpu_that_somebody_names_is_not_given_to_another() {
    let mut lab = Lab::with(&TWO).await;
    let layouts = [any(&mut lab, "a", "mig", LARGE), layout("b", 0, "mig", SMALL)];
    lab.commit(&layouts);
    lab.settle().await;
    assert_eq!((lab.stands(0).len(), lab.stands(1).len()), (7, 1));
    let third = any(&mut lab, "c", "mig", LARGE);
    let [first, second] = layouts;
    lab.commit(&[first, second, third]);
    let plan = lab.pass().await.plan.unwrap();
    let SkipReason::Unobservable(text) = why(&plan, "gpu/c") else { panic!("{}", shown(&plan)) };
    assert!(text.contains("more layouts of product"), "{text}");
}
