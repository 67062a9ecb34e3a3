package main

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// meter shows on a terminal how much is done and when the rest will be. The zero meter shows nothing.
type meter struct{ bar *progressbar.ProgressBar }

// meter returns one on the error output, if that is a terminal and the command's own lines, if it prints some, are not
// on the same screen. A total of -1 is not known: then it counts.
func (g *globals) meter(total int64, unit string, prints bool) meter {
	if !isTerminal(g.err) || prints && isTerminal(g.out) {
		return meter{}
	}
	return meter{progressbar.NewOptions64(total, progressbar.OptionSetWriter(g.err),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString(unit),
		progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(200*time.Millisecond))}
}

func (m meter) add(n int) {
	if m.bar != nil {
		_ = m.bar.Add(n)
	}
}

// set says that done of total are done.
func (m meter) set(done, total int64) {
	if m.bar != nil {
		m.bar.ChangeMax64(total)
		_ = m.bar.Set64(done)
	}
}

// end leaves the line as it is.
func (m meter) end() {
	if m.bar != nil {
		_ = m.bar.Exit()
	}
}

// isTerminal tells whether somebody looks at what is written to w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
