"""The page that people look at in a browser: built files, and what a browser is told with them.

The files in `static/` are built from the sources in the repository's folder `dashboard/`; nothing here needs Node.
"""

from coordinator.dashboard.site import CONTENT_SECURITY_POLICY, Reply, Site, load_site

__all__ = ["CONTENT_SECURITY_POLICY", "Reply", "Site", "load_site"]
