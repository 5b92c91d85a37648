//! Both plugins, linked in for the entry points that GStreamer looks up by the name of the file that it loads.

use gstrswebrtc as _;
use gstwebrtchttp as _;
