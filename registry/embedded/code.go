package embedded

// code is the result of one request, as it crosses the wire.
type code int32

// The codes that this server gives. The numbers are ZooKeeper's.
const (
	codeOK                      code = 0
	codeRuntimeInconsistency    code = -2 // in multi: not tried, since an earlier operation failed
	codeUnimplemented           code = -6
	codeBadArguments            code = -8
	codeNoNode                  code = -101
	codeNoAuth                  code = -102
	codeBadVersion              code = -103
	codeNoChildrenForEphemerals code = -108
	codeNodeExists              code = -110
	codeNotEmpty                code = -111
	codeInvalidACL              code = -114
	codeAuthFailed              code = -115
	codeNoWatcher               code = -121
	codeReconfigDisabled        code = -123
	codeQuotaExceeded           code = -125 // a bound of Options is reached
)
