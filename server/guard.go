package server

import (
	"github.com/kiteq/kiteq/handler"
	"github.com/kiteq/kiteq/server/guard"
)

// newGuard makes the guard of this broker's disk and memory.
func (s *Server) newGuard() *guard.Guard {
	var space func() (guard.Space, error)
	if disk, ok := s.journal.(interface {
		Space() (free, size int64, err error)
	}); ok {
		space = func() (at guard.Space, err error) {
			at.Free, at.Size, err = disk.Space()
			return at, err
		}
	}
	return guard.New(s.config.Limits, space, door{s.handler}, s.log)
}

// door is the handler as the guard sees it.
type door struct{ *handler.Handler }

// Hold implements guard.Door.
func (d door) Hold(cause guard.Cause, text string) {
	why := handler.RefusedDisk
	if cause == guard.Memory {
		why = handler.RefusedMemory
	}
	d.Handler.Hold(why, text)
}
