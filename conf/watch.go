package conf

import (
	"bytes"
	"context"
	"os"
	"time"
)

// Watch calls changed when the file has another content than before, until ctx ends. The new content must have
// stood for one look more: who writes it may be at it. It looks every so often, for a small file costs less than
// to be told of it on every file system. A file that cannot be read has not changed.
func Watch(ctx context.Context, path string, every time.Duration, changed func()) {
	known, _ := os.ReadFile(path)
	last := known
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if bytes.Equal(text, last) && !bytes.Equal(text, known) {
			known = text
			changed()
		}
		last = text
	}
}
