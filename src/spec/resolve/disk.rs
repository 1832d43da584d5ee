//! `Disk` to its canonical form.

use super::super::kinds::DiskSpec;
use super::super::scalar;
use super::{Cx, way_back};
use crate::model::Kind;
use crate::model::resource::{Backing, Disk, Image, Resource, VolumeFormat};

pub(super) fn resolve(cx: &mut Cx<'_>, spec: &DiskSpec) -> Option<Disk> {
    let pool = cx.pool("/spec/pool", spec.pool.as_deref());
    let image = spec.image.as_deref().map(|name| below(cx, name));
    if spec.image.is_some() && spec.format == VolumeFormat::Raw {
        cx.err("spec/conflict", "/spec/format", "a raw disk cannot lie on top of an image")
            .hint("use `qcow2`, which is the default");
    }
    let base = image.as_ref().and_then(|i| i.as_ref()?.size);
    let size = match &spec.size {
        Some(text) => cx.check("/spec/size", scalar::size(&text.0)),
        None if base.is_some() => base,
        None => {
            let asked = match image {
                Some(None) => None,
                Some(Some(_)) => Some("give a `size`: the image does not say its own"),
                None => Some("give a `size`: `20GiB`"),
            };
            if let Some(hint) = asked {
                cx.err("spec/missing-field", "/spec", "field `size` is missing").hint(hint);
            }
            None
        }
    };
    if let (Some(size), Some(base)) = (size, base)
        && size < base
    {
        let message =
            format!("the disk has {size} bytes and its image {base}: it would be cut off");
        cx.err("spec/too-small", "/spec/size", message)
            .hint("make it at least as large as the image, or leave `size` out");
    }
    let way_back = way_back::of_disk(cx, spec);
    let pool = pool?;
    let backing = match image {
        None => None,
        Some(image) => {
            let image = image?;
            Some(Backing { path: image.path, format: image.format })
        }
    };
    Some(Disk {
        path: format!("{}/{}.{}", pool.path, cx.settings.file_name(&cx.id), spec.format.as_str()),
        pool: pool.name,
        format: spec.format,
        size: size?,
        backing,
        on_image_change: Some(spec.on_image_change),
        way_back: way_back?,
    })
}

fn below(cx: &mut Cx<'_>, name: &str) -> Option<Image> {
    let found = cx.use_resolved("/spec/image", Kind::Image, name)?;
    match found.own() {
        Some(Resource::Image(image)) => Some(image.clone()),
        _ => None,
    }
}
