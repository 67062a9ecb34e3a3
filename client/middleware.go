package client

// Middleware wraps a Handler with what all of a client's handlers have in common: logging, tracing,
// time limits. It is called once for each Subscribe; the Handler that it returns is called for each
// delivery, may look at the outcome of next, and may leave it out.
type Middleware func(next Handler) Handler

// wrap puts the middlewares around the handler, the first one outermost. It returns nil when one of
// them does.
func wrap(handle Handler, middlewares []Middleware) Handler {
	for i := len(middlewares) - 1; i >= 0 && handle != nil; i-- {
		handle = middlewares[i](handle)
	}
	return handle
}
