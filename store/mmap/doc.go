// Package mmap keeps the journal in segment files: written by pwrite, read through a mapping.
//
// A Journal is one append-only sequence of batches for all topics, cut into segments:
//
//	00000001.seg 00000002.seg ...   batches of records (record.go, batch.go, segment.go)
//	00000001.idx ...                where each Seq of each stream lies in a sealed segment (index.go);
//	                                derived, rebuilt when absent or damaged
//	00000007.ckpt 00000008.ckpt     the two newest checkpoints (checkpoint.go)
//	00000002-4096.cut               bytes that recovery cut off although batches in them were whole
//	LOCK                            held by the process that has the journal open
//
// The byte layouts are in doc/store-format.md, why it is so in doc/adr/0003-journal-segments.md.
package mmap
