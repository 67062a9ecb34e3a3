package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"
)

// dumpHeaps writes a heap profile for every signal, where the log is or else in the working directory,
// under the name that operators know from the original KiteQ.
func (s *Server) dumpHeaps(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.control.DumpHeap:
		}
		path := filepath.Join(s.config.LogPath, fmt.Sprintf("heapdump-kiteq-%d", time.Now().Unix()))
		if err := dumpHeap(path); err != nil {
			s.log.Warn("heap not dumped", "err", err)
			continue
		}
		s.log.Info("heap dumped, read it with go tool pprof", "file", path)
	}
}

// dumpHeap writes the profile as of the last collection. A file of that name, from the same second, is replaced.
func dumpHeap(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) // it holds what was in memory
	if err != nil {
		return err
	}
	if err := pprof.WriteHeapProfile(f); err != nil {
		_ = f.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Close()
}
