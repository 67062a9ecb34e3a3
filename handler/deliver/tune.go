package deliver

// Tune takes over what may change while deliveries go on: everything but Shards and BindSkew. What waits for its next
// attempt keeps its time, and what is in flight waits no longer than the new AckTimeout from now.
func (d *Dispatcher) Tune(o Options) {
	for _, s := range d.shards {
		s.post(func(e *events) { e.tuned = &o })
	}
}

func (s *shard) tune(o Options) {
	o.Shards, o.BindSkew = s.options.Shards, s.options.BindSkew
	old := s.options.Watermark
	s.options = o
	s.slots.hasten(sent, s.nowMs+o.AckTimeout.Milliseconds())
	for _, f := range s.flows {
		f.retry = o.Retry[f.group]
		if o.Watermark != old && f.current.Watermark() <= 0 {
			f.bucket.set(o.Watermark)
		}
		s.makeReady(f) // the window may be wider
	}
}
