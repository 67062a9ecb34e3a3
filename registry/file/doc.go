// Package file reads brokers and bindings from a YAML file, as a registry.Registry that only reads.
//
// Read document.go for the format, picture.go for what a reading is compared with, and registry.go for
// when it is read. doc/registry.md shows the file to those who write one.
//
// The file is read again every Options.ReloadEvery, and by Reload. It is read whole and compared byte by
// byte, not watched: one small file a minute costs nothing, an edit within the clock tick of the last one
// is seen too, and it works where notifications do not, on network file systems and on the symbolic
// links that Kubernetes swaps. Who does not want to wait calls Reload.
//
// What cannot be read is never taken for "nobody is bound". A reading that fails keeps the last good
// picture, and since a file that was cut short may still be YAML, both lists must be there, even empty.
package file
