package zk

import (
	"context"

	"github.com/kiteq/kiteq/registry"
)

// WatchPeers implements registry.Peers.
func (r *Registry) WatchPeers(ctx context.Context, changed func(ids []string)) error {
	nodes := map[string]*listedNode{registry.PeersDir: {changed: true}}
	return r.watch(ctx, "watch peers", &peersPicture{listing: &listing{nodes: nodes}, changed: changed})
}

type peersPicture struct {
	*listing // refreshes
	changed  func([]string)
}

func (p *peersPicture) report() {
	if dir := p.nodes[registry.PeersDir]; dir.changed {
		dir.changed = false
		p.changed(dir.children) // replaced, never changed
	}
}
