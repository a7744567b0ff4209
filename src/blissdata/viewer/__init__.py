"""Scans in the browser: what there is, what comes, and every scan as an HDF5 tree.

page (web/)  ◄── app        routes, token, limits                    needs the extra `web`
                 live       what happens on the server, once for all browsers
                 content    a file's tree and data, as H5Web asks for them; knows no web
                 export     a whole scan as an HDF5 file
"""
