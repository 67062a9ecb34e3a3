package zk

import (
	"fmt"
	"log/slog"
)

// quiet takes the library's lines, one for each attempt to connect among them, to the debug level.
// What an operator should know the supervisor logs itself, once for each change.
type quiet struct{ log *slog.Logger }

// Printf implements the library's Logger.
func (q quiet) Printf(format string, args ...any) {
	q.log.Debug("zookeeper library", "text", line{format, args})
}

// line is put together only when somebody reads it.
type line struct {
	format string
	args   []any
}

// LogValue implements slog.LogValuer.
func (l line) LogValue() slog.Value { return slog.StringValue(fmt.Sprintf(l.format, l.args...)) }
