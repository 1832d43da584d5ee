//! What the log keeps of how GPUs were cut: each change once, also one that nobody asked for.

use trueup::event::Event;
use trueup::view::gpu::{gpus_then, picture_of};
use trueup_fake_nvml::{Edit, State};
use trueup_mig::picture::Charset;

use super::lab::{FIRST, Lab, layout};

/// The cuts that the log holds, oldest first.
fn cuts(lab: &Lab) -> Vec<Vec<String>> {
    let events = lab.world.log.events();
    let seen = events.iter().filter_map(|recorded| match &recorded.entry.event {
        Event::GpuObserved(observed) => Some(&observed.gpu),
        _ => None,
    });
    seen.map(|gpu| gpu.parts.iter().map(|part| part.called()).collect()).collect()
}

#[tokio::test]
async fn each_cut_is_in_the_log_once_and_can_be_drawn_later() {
    let mut lab = Lab::cut().await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    let first = ["infer-0", "infer-1", "infer-2", "train"];
    assert_eq!(cuts(&lab), [&[][..], &first]);
    let then = lab.world.state();
    lab.pass().await;
    assert_eq!(cuts(&lab).len(), 2, "a look that finds nothing new says nothing");
    lab.process(7, 4);
    lab.pass().await;
    assert_eq!(cuts(&lab).len(), 2, "who uses what is not kept");
    let lose_one = |state: &mut State| state.gpus[0].instances.retain(|it| it.start != 1);
    lab.store.change(lose_one).unwrap();
    lab.settle().await;
    assert_eq!(cuts(&lab)[2], ["infer-0", "infer-2", "train"]);
    assert_eq!(cuts(&lab)[3], first);
    lab.edit(&Edit::Reboot);
    lab.restart().await;
    lab.settle().await;
    assert_eq!(cuts(&lab)[4], [""; 0], "what a reboot took is seen");
    assert_eq!(cuts(&lab).last().unwrap(), &first);
    let row = &gpus_then(&then).gpus[0];
    assert_eq!(row.layout.as_ref().unwrap().to_string(), "gpu/big");
    assert_eq!(row.parts.len(), 4);
    let drawn = row.picture.as_ref().unwrap().text(Charset::Ascii);
    assert!(drawn.contains("| 3g train "), "{drawn}");
    let known = then.resources.values().find_map(|known| known.gpu.as_ref()).unwrap();
    assert_eq!(picture_of(&known.seen).as_ref(), row.picture.as_ref());
    lab.world.check_invariants();
}

#[tokio::test]
async fn a_layout_that_is_gone_leaves_its_past() {
    let lab = Lab::cut().await;
    lab.commit(&[layout("big", 0, "mig", FIRST)]);
    lab.settle().await;
    let then = lab.world.state();
    let network = "apiVersion: trueup/v1\nkind: Network\nmetadata: { name: lab }\nspec: { cidr: \
                   10.99.0.0/24 }\n";
    lab.commit(&[network.to_owned()]);
    lab.settle().await;
    assert!(gpus_then(&lab.world.state()).gpus.is_empty());
    assert_eq!(gpus_then(&then).gpus[0].parts.len(), 4);
}
