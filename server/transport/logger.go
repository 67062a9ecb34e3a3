package transport

import (
	"fmt"
	"log/slog"
	"strings"
)

// logger hands gnet's words to slog. Its errors about single connections are ours to report.
type logger struct{ log *slog.Logger }

func (l logger) Debugf(format string, args ...any) { l.log.Debug(l.text(format, args)) }
func (l logger) Infof(format string, args ...any)  { l.log.Debug(l.text(format, args)) }
func (l logger) Warnf(format string, args ...any)  { l.log.Debug(l.text(format, args)) }
func (l logger) Errorf(format string, args ...any) { l.log.Warn(l.text(format, args)) }
func (l logger) Fatalf(format string, args ...any) { l.log.Error(l.text(format, args)) }

func (logger) text(format string, args []any) string {
	return "gnet: " + strings.TrimSpace(fmt.Sprintf(format, args...))
}
