// Package registry has the bindings of the original client's package of that name, for programs that move
// to package compat.
//
// The registries themselves are not here: Start of package compat opens the one that its URI names.
package registry
