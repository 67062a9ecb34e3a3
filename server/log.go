package server

import (
	"log/slog"
	"strings"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/internal/kite"
)

// LogLevel implements admin.Broker.
func (s *Server) LogLevel() string {
	if s.control.Level == nil {
		return "info"
	}
	return strings.ToLower(s.control.Level.Level().String())
}

// SetLogLevel implements admin.Broker.
func (s *Server) SetLogLevel(level, by string) error {
	parsed, err := conf.ParseLevel(level)
	switch {
	case err != nil:
		return err
	case s.control.Level == nil:
		return kite.Errorf(kite.Unavailable, "this broker's log has one level for ever")
	}
	s.setLevel(parsed, by)
	return nil
}

// setLevel changes the level, and says so in the log if the old or the new level shows that.
func (s *Server) setLevel(level slog.Level, by string) {
	was := s.control.Level.Level()
	s.control.Level.Set(min(was, level))
	s.log.Info("log level changed", "level", level, "was", was, "by", by)
	s.control.Level.Set(level)
}
