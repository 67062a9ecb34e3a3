package kite

import "errors"

// Problems gathers what is wrong with options, so that all of it is told at once.
type Problems struct{ list []error }

// Check adds a problem of code Invalid, formatted as by fmt.Errorf, unless ok.
func (p *Problems) Check(ok bool, format string, args ...any) {
	if !ok {
		p.list = append(p.list, Errorf(Invalid, format, args...))
	}
}

// Err returns the problems, a line each, or nil.
func (p *Problems) Err() error { return errors.Join(p.list...) }
