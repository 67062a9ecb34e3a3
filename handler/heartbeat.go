package handler

import "github.com/kiteq/kiteq/internal/protocol"

// heartbeat echoes the client's version. It is answered before ConnMeta too: a reconnecting Go client
// flushes its queue first, and closing its connection would do it harm (interop contract §1.5, §4.2).
func (r *read) heartbeat(f *protocol.Frame) {
	version, err := protocol.DecodeHeartbeat(f.Payload)
	if err != nil {
		r.malformed(f, err)
		return
	}
	r.reply = protocol.AppendHeartbeat(r.reply, r.framing, f.Opaque, version)
}
