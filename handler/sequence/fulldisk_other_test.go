//go:build !linux

package sequence

import "testing"

func smallDisk(t *testing.T, _ int) string {
	t.Helper()
	t.Skip("a small file system is mounted on Linux only; TestFullDisk of store/mmap has one in memory")
	return ""
}
