//! The form in which directives and their values are declared, each in one place.

/// Declares directives by name, as an enum.
#[macro_export]
macro_rules! declare_directives {
    (
        $(#[$about:meta])*
        pub enum $enum:ident {
            $(#[doc = $doc:literal] $variant:ident = $name:literal;)*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $enum {
            $(#[doc = $doc] $variant,)*
        }

        impl $enum {
            /// All of them.
            pub const ALL: &'static [$enum] = &[$($enum::$variant,)*];

            /// The directive's name.
            pub const fn name(self) -> &'static ::std::ffi::CStr {
                match self {
                    $($enum::$variant => $name,)*
                }
            }
        }
    };
}

/// Declares settings: a struct of their values, an enum of their directives.
///
/// Each line has one sentence, the directive's name, its field and the type of its value. `as UNIT
/// = DEFAULT` gives the unit in which the default is [written](crate::settings::written), and the
/// default; `= like FIELD` makes another setting's value the default. A field is an `Option`,
/// `None` if the configuration does not set it. A setting with a default has a method of the same
/// name, which returns the value in effect.
///
/// Settings that are `inherited` are taken over from a parent by `inherit_settings`. The struct's
/// other fields belong together, and are taken over all at once by `serve_as`.
#[macro_export]
macro_rules! declare_settings {
    (
        $(#[$about:meta])*
        pub struct $struct:ident {
            $($(#[$plain_doc:meta])* pub $plain:ident: $plain_type:ty,)*
        }

        $(#[$enum_about:meta])*
        pub enum $enum:ident $(: $inherited:ident)? {
            $(
                #[doc = $doc:literal]
                $variant:ident = $name:literal => $field:ident: $type:ty
                    $(= like $other:ident)? $(as $unit:ident = $default:expr)?;
            )*
        }
    ) => {
        $(#[$about])*
        #[derive(Default)]
        pub struct $struct {
            $($(#[$plain_doc])* pub $plain: $plain_type,)*
            $(#[doc = $doc] pub $field: Option<$type>,)*
        }

        impl $struct {
            $($(
                #[doc = $doc]
                pub fn $field(&self) -> $type {
                    self.$field.unwrap_or($default)
                }
            )?)*

            $($(
                #[doc = $doc]
                pub fn $field(&self) -> $type {
                    self.$field.unwrap_or_else(|| self.$other())
                }
            )?)*
        }

        $crate::declare_settings!(@inherit $struct { $($field)* } { $($plain)* } $($inherited)?);

        $crate::declare_directives! {
            $(#[$enum_about])*
            pub enum $enum {
                $(#[doc = $doc] $variant = $name;)*
            }
        }

        impl $enum {
            // As `default_text`.
            #[allow(dead_code)]
            /// The words that the value may be, if it is one of a set.
            pub fn words(self) -> Option<Vec<&'static str>> {
                match self {
                    $($enum::$variant => $crate::declare_settings!(@words $type $(, $unit)?),)*
                }
            }

            // Used by tests of the documents, which may be in another crate.
            #[allow(dead_code)]
            /// The value if the configuration sets none, as it would be written there; `None` if
            /// there is no default.
            pub fn default_text(self) -> Option<String> {
                let unset = $struct::default();
                match self {
                    $($enum::$variant => {
                        $crate::declare_settings!(@text unset $field $(as $unit)? $(= like $other)?)
                    })*
                }
            }
        }
    };

    (@inherit $struct:ident { $($field:ident)* } { $($plain:ident)* }) => {};
    (@inherit $struct:ident { $($field:ident)* } { $($plain:ident)* } inherited) => {
        impl $struct {
            fn inherit_settings(&mut self, parent: &$struct) {
                $(self.$field = self.$field.or(parent.$field);)*
            }

            fn serve_as(&mut self, parent: &$struct) {
                $(self.$plain.clone_from(&parent.$plain);)*
            }
        }
    };

    (@words $type:ty) => { None };
    (@words $type:ty, word) => { Some($crate::settings::written::words::<$type>()) };
    (@words $type:ty, $unit:ident) => { None };

    (@text $unset:ident $field:ident) => { None };
    (@text $unset:ident $field:ident as $unit:ident) => {
        Some($crate::settings::written::$unit($unset.$field()))
    };
    (@text $unset:ident $field:ident = like $other:ident) => {
        Some(stringify!($other).to_owned())
    };
}
