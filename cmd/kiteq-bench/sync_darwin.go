package main

import "os"

// syncData forces the file to the disk.
func syncData(f *os.File) error { return f.Sync() }
