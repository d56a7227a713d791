// SPDX-License-Identifier: Apache-2.0
// The part of fmt that is not templates, for the static binary: Debian has it as a shared object only.
// Compiled here once; header-only, every file of the plugin would compile it again.
#include <fmt/format-inl.h>

FMT_BEGIN_NAMESPACE
namespace detail {

template FMT_API auto thousands_sep_impl<char>(locale_ref) -> thousands_sep_result<char>;
template FMT_API auto decimal_point_impl(locale_ref) -> char;

}  // namespace detail
FMT_END_NAMESPACE
