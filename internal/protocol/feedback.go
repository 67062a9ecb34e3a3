package protocol

// The feedback texts of the original broker. Clients decide by the status only, but people search
// their logs for these.
const (
	FeedbackAuthorized     = "Auth Succ"
	FeedbackUnauthorized   = "Unauthorized,Connection broken!"
	FeedbackForbidden      = "Unauthorized: "              // ours; followed by what is not allowed
	FeedbackOverflow       = "Store Result KiteQ OverFlow" // followed by " [ip:port]" of the broker
	FeedbackTopic          = "UnSupport Topic Message!"
	FeedbackMessageID      = "Invalid MessageId For UUID!"
	FeedbackExpired        = "Expired Message!"
	FeedbackFly            = "FLY NO NEED SAVE"
	FeedbackFlyUncommitted = "FLY MUST BE COMMITTED !"
	FeedbackStored         = "Store Result true Cost:"      // followed by milliseconds
	FeedbackNotStored      = "Store Result false Cost:"     // followed by milliseconds
	FeedbackConflict       = "Store Result false Conflict:" // ours; followed by how the id stands
	FeedbackDelay          = "Bad Delay: "                  // ours; followed by what was asked for and what may be
	FeedbackProperties     = "Too Many Properties: "        // ours; followed by how many and what is allowed
	FeedbackCheck          = "Server Check"
)
