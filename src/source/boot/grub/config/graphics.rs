//! What `grub.cfg` says of font, picture and theme; pure.

use std::path::Path;

use super::is_true;
use crate::source::boot::grub::place::Located;
use crate::spec::Grub;

/// What a theme holds that matters to the menu.
#[derive(Debug, Default)]
pub(in super::super) struct ThemeFiles {
    /// Whether GRUB must read PNG.
    pub(in super::super) has_png: bool,
    /// Whether GRUB must read JPEG.
    pub(in super::super) has_jpeg: bool,
    /// The paths of fonts in it.
    pub(in super::super) fonts: Vec<String>,
}

/// The ending of a picture's name in `/boot`, with its dot; may be empty. GRUB's module for `.jpg` is called jpeg.
pub(in super::super) fn suffix(picture: &Path) -> String {
    let name = picture.file_name().unwrap_or_default().to_string_lossy();
    // The character after the dot may be a dot.
    let start = name.char_indices().find(|&(at, c)| {
        let mut rest = name.get(at..).unwrap_or_default().chars().skip(1);
        c == '.' && rest.next().is_some() && !rest.any(|c| c == '.')
    });
    match start.and_then(|(at, _)| name.get(at..)) {
        Some(".jpg") => ".jpeg".to_owned(),
        other => other.unwrap_or_default().to_owned(),
    }
}

/// The commands. `theme` is what is in the theme, if there is one.
pub(in super::super) fn graphics(wanted: &Grub, boot: &Located, theme: Option<&ThemeFiles>) -> String {
    let boot = boot.prefix();
    let mut text = String::new();
    if wanted.font.is_some() {
        text += &FONT
            .replace("<boot>", boot)
            .replace("<mode-efi>", &wanted.gfxmode_efi)
            .replace("<payload-efi>", &wanted.gfxpayload_efi)
            .replace("<mode-bios>", &wanted.gfxmode_bios)
            .replace("<payload-bios>", &wanted.gfxpayload_bios);
    }
    if let Some(picture) = &wanted.splash_image {
        let color = wanted.background_color.as_deref().filter(|color| is_true(color));
        text += &color.map_or_else(String::new, |color| format!("\n        background_color '{color}'\n        "));
        let suffix = suffix(picture);
        text += &SPLASH
            .replace("<boot>", boot)
            .replace("<module>", suffix.strip_prefix('.').unwrap_or_default())
            .replace("<suffix>", &suffix)
            .replace("<mode>", &wanted.splash_mode);
    }
    text + &theme.map_or_else(String::new, |theme| self::theme(theme, boot))
}

fn theme(theme: &ThemeFiles, boot: &str) -> String {
    let mut text = String::new();
    for (is_there, module) in [(theme.has_png, "png"), (theme.has_jpeg, "jpeg")] {
        if is_there {
            text += &format!("\n            insmod {module}\n        ");
        }
    }
    text += &THEME.replace("<boot>", boot);
    for font in &theme.fonts {
        text += &format!("\n                loadfont {boot}/theme/{font}\n            ");
    }
    text
}

const FONT: &str = r#"
        insmod font
        if loadfont <boot>/converted-font.pf2; then
          insmod gfxterm
          if [ "${grub_platform}" = "efi" ]; then
            set gfxmode=<mode-efi>
            set gfxpayload=<payload-efi>
          else
            set gfxmode=<mode-bios>
            set gfxpayload=<payload-bios>
          fi
          terminal_output gfxterm
        fi
    "#;

const SPLASH: &str = r"
        insmod <module>
        if background_image --mode '<mode>' <boot>/background<suffix>; then
          set color_normal=white/black
          set color_highlight=black/white
        else
          set menu_color_normal=cyan/blue
          set menu_color_highlight=white/blue
        fi
    ";

const THEME: &str = r"
        # Sets theme.
        set theme=<boot>/theme/theme.txt
        export theme
        # Load theme fonts, if any
    ";
