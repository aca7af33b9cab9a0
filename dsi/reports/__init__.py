"""HTML reports: one self-contained page with SVG figures."""
